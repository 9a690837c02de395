"""What a model repository holds, and whether each model's files are there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_FILE = {"onnxruntime": "model.onnx", "tensorrt": "model.plan", "python": "model.py"}
BACKEND_OF_PLATFORM = {"onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt", "ensemble": "ensemble"}
WEIGHTS = "weights"
"""Parameter in which a Python model's configuration names the files it reads from its version folder, `*` allowed."""
OPTIONAL = "optional"
"""Parameter, `true` for a model that the system does without where it has not been exported."""


class RepositoryError(ValueError):
    """A configuration that cannot be read; the message names the file."""


@dataclass(frozen=True)
class Model:
    """One model of a repository.

    Args:
        name: its folder and its name in Triton.
        backend: `ensemble`, `python`, `onnxruntime`, …
        missing: files that its configuration asks for and that are not there.
        optional: whether the system runs without it.
    """

    name: str
    backend: str
    missing: tuple[Path, ...]
    optional: bool = False

    @property
    def left_out(self) -> bool:
        """Whether it is not to be loaded."""
        return self.optional and bool(self.missing)


def read_repository(repository: Path) -> list[Model]:
    """Return every model in `repository` that has a configuration, by name.

    Raises:
        RepositoryError: a `config.pbtxt` is not one.
    """
    return [_read(path) for path in sorted(repository.glob("*/config.pbtxt"))]


def _read(path: Path) -> Model:
    # Imported late: the preflight, not a traceback, is to say when it is missing.
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(path.read_text(), config)
    except text_format.ParseError as error:
        raise RepositoryError(f"{path}: {error}") from error
    backend = config.backend or BACKEND_OF_PLATFORM.get(config.platform, config.platform)
    wanted = _files(config, backend)
    versions = [folder for folder in path.parent.iterdir() if folder.is_dir() and folder.name.isdigit()]
    folders = versions or [path.parent / "1"]
    missing = tuple(folder / name for folder in folders for name in wanted if not any(folder.glob(name)))
    optional = OPTIONAL in config.parameters and config.parameters[OPTIONAL].string_value == "true"
    return Model(path.parent.name, backend, missing, optional)


def _files(config: Any, backend: str) -> list[str]:
    if backend not in MODEL_FILE:
        return []
    weights = config.parameters[WEIGHTS].string_value.split() if WEIGHTS in config.parameters else []
    return [config.default_model_filename or MODEL_FILE[backend], *weights]
