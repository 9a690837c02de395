"""The installed project runs from anywhere, not only from its own folder."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.parametrize(
    "package",
    [
        *("client", "export", "gateway", "server", "benchmarks.stages", "benchmarks.perf"),
        *("benchmarks.streaming", "benchmarks.streaming_released"),
    ],
)
def test_each_command_runs_from_another_folder(package, tmp_path):
    command = [sys.executable, "-m", package, "--help"]
    shown = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    assert "Usage" in shown.stdout or "usage" in shown.stdout


def test_the_console_script_runs_from_another_folder(tmp_path):
    script = Path(sys.executable).parent / "step-audio"
    shown = subprocess.run(
        [script, "--help"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "speak" in shown.stdout


def test_every_package_is_listed_for_installation():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    tops = {name.split(".")[0] for name in listed}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for top in tops for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found
