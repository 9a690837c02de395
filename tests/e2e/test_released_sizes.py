"""Networks of the released dimensions, with random weights, export and serve within 12 GB."""

import resource
import subprocess
import sys

import pytest
import tritonclient.grpc as grpcclient

from tests.e2e.triton_inputs import ensemble_inputs, tensors
from tests.repositories import bare_copy
from tests.servers import ROOT, start

pytestmark = [pytest.mark.full, pytest.mark.server, pytest.mark.timeout(1800)]
MEMORY_LIMIT_KB = 12_000_000


def peak_memory_kb(root: int) -> int:
    """Sum the peaks of process `root` and all its descendants; pages they share count several times."""
    rows = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
    parents = {int(row.split()[0]): int(row.split()[1]) for row in rows if row.strip()}
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(peak_of(pid) for pid in family)


def peak_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    except FileNotFoundError:  # ended meanwhile
        return 0


def test_released_sizes_export_and_serve_within_12_gb(tmp_path):
    checkpoint, repository = tmp_path / "checkpoint", bare_copy(tmp_path / "model_repository")
    export = [sys.executable, "-m", "export"]
    subprocess.run([*export, "demo", "--size", "released", "--out", checkpoint], cwd=ROOT, check=True)
    build = ["build", "--checkpoint", checkpoint, "--model-repository", repository]
    subprocess.run([*export, *build], cwd=ROOT, check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEMORY_LIMIT_KB
    server = start("--model-repository", str(repository), "--no-gateway", within=900)
    try:
        inputs = tensors(grpcclient, ensemble_inputs(text="All at the released sizes.", max_tokens=50))
        answer = server.triton().infer("step_audio_editx_base", inputs)
        assert answer.as_numpy("waveform").size == 10 * 2880
        heard = tensors(grpcclient, {name: ensemble_inputs()[name] for name in ("audio", "sample_rate")})
        assert server.triton().infer("speech_recognizer", heard).as_numpy("stage_ms").shape == (3,)
        peak = peak_memory_kb(server.process.pid)
        print(f"released sizes: peak memory of all processes {peak / 1e6:.1f} GB")
        assert peak < MEMORY_LIMIT_KB
    finally:
        server.stop()
