"""Finding a tritonserver: NVIDIA's container first, then the `nvidia-pytriton` wheel."""

import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

CONTAINER = Path("/opt/tritonserver")


@dataclass(frozen=True)
class Home:
    """One installed tritonserver.

    Args:
        name: what to call it in messages.
        server: the program.
        backends: folder with one sub-folder per backend it brings.
        stubs: folder with a Python backend stub per Python version, where the stub is not beside its backend.
        libraries: folders the dynamic loader needs on top of its own.
    """

    name: str
    server: Path
    backends: Path
    stubs: Path | None = None
    libraries: tuple[Path, ...] = ()


def find_home(container: Path = CONTAINER) -> Home | None:
    """Return the tritonserver to run, `None` where there is none."""
    if (container / "bin" / "tritonserver").is_file():
        return Home("NVIDIA's container", container / "bin" / "tritonserver", container / "backends")
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        return None
    root = Path(package.submodule_search_locations[0]) / "tritonserver"
    if not (root / "bin" / "tritonserver").is_file():
        return None
    # The wheel's own, and the running interpreter's libpython, which need not be the distribution's.
    libraries = (
        root.parents[1] / "nvidia_pytriton.libs",
        Path(sysconfig.get_config_var("LIBDIR") or ""),
        Path(sys.base_prefix) / "lib",
    )
    return Home(
        "the nvidia-pytriton wheel",
        root / "bin" / "tritonserver",
        root / "backends",
        root / "python_backend_stubs",
        tuple(dict.fromkeys(path for path in libraries if path.is_dir())),
    )
