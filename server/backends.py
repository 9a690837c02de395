"""The backend directory tritonserver is started with."""

import shutil
import sys
from pathlib import Path

from server.locate import Home
from server.settings import ROOT

STAND_INS = {
    "onnxruntime": ROOT / "python_backend" / "onnxruntime_backend" / "model.py",
    "tensorrt": ROOT / "python_backend" / "onnxruntime_backend" / "tensorrt.py",
}
PYTHON_LIBRARY = "libtriton_python.so"
PYTHON_UTILITIES = "triton_python_backend_utils.py"
STUB = "triton_python_backend_stub"


def native(home: Home, backend: str) -> bool:
    """Tell whether `home` brings `backend` as a library of its own."""
    return (home.backends / backend / f"libtriton_{backend}.so").is_file()


def stub(home: Home) -> Path:
    """Return the program that runs Python models under the running version of Python."""
    if home.stubs is None:
        return home.backends / "python" / STUB
    return home.stubs / f"{sys.version_info.major}.{sys.version_info.minor}" / STUB


def assemble(home: Home, directory: Path) -> Path:
    """Return the backend directory for `home`: its own, or `directory` filled with what it lacks as well."""
    lacking = {backend: model for backend, model in STAND_INS.items() if not native(home, backend)}
    if not lacking and home.stubs is None:
        return home.backends
    directory.mkdir(parents=True)
    for backend in home.backends.iterdir():
        if backend.name != "python":
            (directory / backend.name).symlink_to(backend)
    python = directory / "python"
    python.mkdir()
    # A copy: Triton refuses to run a Python-based backend with a library that a link leads out of the directory.
    shutil.copy(home.backends / "python" / PYTHON_LIBRARY, python)
    (python / PYTHON_UTILITIES).symlink_to(home.backends / "python" / PYTHON_UTILITIES)
    (python / STUB).symlink_to(stub(home))
    for backend_name, model in lacking.items():
        (directory / backend_name).mkdir()
        (directory / backend_name / "model.py").symlink_to(model)
    return directory
