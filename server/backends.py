"""The backend directory tritonserver is started with."""

import sys
from pathlib import Path

from server.locate import Home
from server.settings import ROOT

STAND_INS = {
    "onnxruntime": ROOT / "python_backend" / "onnxruntime_backend" / "model.py",
    "tensorrt": ROOT / "python_backend" / "onnxruntime_backend" / "tensorrt.py",
}


def native(home: Home, backend: str) -> bool:
    """Tell whether `home` brings `backend` as a library of its own."""
    return (home.backends / backend / f"libtriton_{backend}.so").is_file()


def stub(home: Home) -> Path:
    """Return the program that runs Python models under the running version of Python."""
    if home.stubs is None:
        return home.backends / "python" / "triton_python_backend_stub"
    return home.stubs / f"{sys.version_info.major}.{sys.version_info.minor}" / "triton_python_backend_stub"


def assemble(home: Home, directory: Path) -> Path:
    """Fill `directory` with links to what `home` brings and to a stand-in for each backend it lacks.

    Links, not copies: the libraries find their neighbours relative to where they really are.
    """
    for backend in sorted(path for path in home.backends.iterdir() if path.is_dir()):
        _link(directory / backend.name, [path for path in backend.iterdir() if path.name != "__pycache__"])
    if home.stubs is not None:
        _link(directory / "python", [stub(home)])
    for backend_name, model in STAND_INS.items():
        if not native(home, backend_name):
            (directory / backend_name).mkdir()
            (directory / backend_name / "model.py").symlink_to(model)
    return directory


def _link(directory: Path, targets: list[Path]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for target in targets:
        (directory / target.name).symlink_to(target)
