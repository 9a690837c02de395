"""What has to be in place before tritonserver can start, each thing with the line that puts it right."""

import ctypes.util
import importlib.util
import os
import platform
import shutil
import socket
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from server.backends import native, stub
from server.locate import Home
from server.repository import Model, RepositoryError, read_repository
from server.settings import Settings
from server.shared_memory import FOLDER as SHARED_MEMORY

GLIBC = (2, 35)
PYTHONS = ((3, 11), (3, 12))
DISK = 500_000_000
SHARED_MEMORY_FREE = 256_000_000
INSTALL = 'pip install -c constraints.txt -e ".[gateway,serve]"'
EXPORT = "python -m export demo && python -m export build --checkpoint build/demo-checkpoint"


@dataclass(frozen=True)
class Problem:
    """One thing that keeps the system from starting, and the one line that helps."""

    what: str
    remedy: str


def check(settings: Settings, home: Home | None) -> list[Problem]:
    """Return everything that is missing, all at once; an empty list means go."""
    problems = [*_packages(settings, home), *_ports(settings), *_space(settings)]
    if home is None:
        problems.insert(0, Problem("no tritonserver found, neither NVIDIA's container nor the wheel", INSTALL))
    else:
        problems = [*_wheel(home), *problems] if home.stubs is not None else problems
        problems += _models(settings.model_repository, home)
    return problems


def _wheel(home: Home) -> Iterator[Problem]:
    """Check what the `nvidia-pytriton` wheel asks of the machine: it holds programs for one platform only."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        yield Problem(
            f"{platform.system()} on {platform.machine()}: the tritonserver wheel runs on Linux x86-64 only",
            "use WSL2 on Windows, or NVIDIA's container",
        )
        return
    name, release = platform.libc_ver()
    glibc_wanted = ".".join(map(str, GLIBC))
    if name != "glibc" or tuple(int(part) for part in release.split(".")[:2]) < GLIBC:
        yield Problem(
            f"the C library is {name or 'not glibc'} {release}, the tritonserver wheel needs glibc {glibc_wanted}",
            "use Debian 12, Ubuntu 22.04 or newer, or NVIDIA's container",
        )
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info[:2] not in PYTHONS or not stub(home).is_file():
        yield Problem(f"Python {running} is not one the models run on", "make the .venv with Python 3.11 or 3.12")
    elif not _shared_libpython(running):
        yield Problem(
            f"libpython{running}.so.1.0 not found: this Python was built without a shared library",
            f"apt install libpython{running}, or PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {running}",
        )


def _shared_libpython(running: str, library_directories: tuple[str | None, ...] | None = None) -> bool:
    if library_directories is None:
        base = sysconfig.get_config_var("LIBDIR")
        multiarch = sysconfig.get_config_var("MULTIARCH")
        library_directories = (base, f"{base}/{multiarch}", f"{sys.base_prefix}/lib")
    name = f"libpython{running}.so.1.0"
    beside = any(directory is not None and (Path(directory) / name).is_file() for directory in library_directories)
    return beside or ctypes.util.find_library(f"python{running}") == name


def _packages(settings: Settings, home: Home | None) -> Iterator[Problem]:
    wanted = ["numpy", "soundfile", "tritonclient"]
    if home is not None and not native(home, "onnxruntime"):
        wanted.append("onnxruntime")
    if settings.gateway:
        wanted += ["fastapi", "uvicorn", "pydantic_settings", "grpc"]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        yield Problem(f"Python packages not installed: {', '.join(missing)}", INSTALL)
    if home is not None and home.stubs is not None and "numpy" not in missing and _major(version("numpy")) >= 2:
        # Not a matter of taste: with numpy 2 the wheel's stub answers with empty tensors or dies.
        yield Problem(f"numpy {version('numpy')} does not work with the tritonserver wheel", "pip install 'numpy<2'")


def _major(release: str) -> int:
    return int(release.split(".")[0])


def _ports(settings: Settings) -> Iterator[Problem]:
    ports = [
        (settings.triton_host, settings.http_port, "Triton's HTTP", "--triton-http-port"),
        (settings.triton_host, settings.grpc_port, "Triton's gRPC", "--triton-grpc-port"),
        (settings.triton_host, settings.metrics_port, "Triton's metrics", "--triton-metrics-port"),
    ]
    if settings.gateway:
        ports.insert(0, (settings.host, settings.port, "the gateway", "--port"))
    seen: dict[int, str] = {}
    for host, port, user, option in ports:
        if port in seen:
            yield Problem(f"port {port} is given to both {seen[port]} and {user}", f"choose another one with {option}")
        elif not _free(host, port):
            yield Problem(f"port {port} for {user} is taken", f"choose another one with {option}")
        seen[port] = user


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of an earlier run that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _space(settings: Settings) -> Iterator[Problem]:
    folder = settings.first_words.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        yield Problem(f"{folder} is not writable", "choose another place with --first-words")
    free = shutil.disk_usage(folder).free
    if free < DISK:
        yield Problem(f"{free / 1e6:.0f} MB of disk left at {folder}", f"free at least {DISK / 1e6:.0f} MB")
    if not SHARED_MEMORY.is_dir():
        yield Problem(f"{SHARED_MEMORY} is missing: models exchange tensors through it", "mount a tmpfs there")
    elif (free := shutil.disk_usage(SHARED_MEMORY).free) < SHARED_MEMORY_FREE:
        yield Problem(
            f"{free / 1e6:.0f} MB left in {SHARED_MEMORY}, models need {SHARED_MEMORY_FREE / 1e6:.0f} MB",
            f"remove what is in it, or give a container more with --shm-size=1g (size now: {_size(SHARED_MEMORY)})",
        )


def _size(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).total / 1e6:.0f} MB"


def _models(repository: Path, home: Home) -> Iterator[Problem]:
    if importlib.util.find_spec("tritonclient") is None:
        return  # reported with the packages; configurations cannot be read without it
    try:
        models = read_repository(repository)
    except RepositoryError as error:
        yield Problem(f"unreadable model configuration {error}", "correct the file")
        return
    if not models:
        yield Problem(f"{repository} holds no model", "give the folder with --model-repository")
    for model in models:
        yield from _model(model, home)


def _model(model: Model, home: Home) -> Iterator[Problem]:
    if model.backend == "tensorrt" and not native(home, "tensorrt"):
        yield Problem(
            f"{model.name} is a TensorRT plan, which {home.name} cannot run",
            f"git checkout model_repository/{model.name}/config.pbtxt, or use a GPU and NVIDIA's container",
        )
    elif model.missing and not model.left_out:
        files = ", ".join(path.name for path in model.missing)
        yield Problem(f"{model.name} is not exported: {files} missing in {model.missing[0].parent}", EXPORT)
