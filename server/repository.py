"""What a model repository holds, and whether each model's files are there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MODEL_FILE = {"onnxruntime": "model.onnx", "tensorrt": "model.plan", "python": "model.py"}
BACKEND_OF_PLATFORM = {"onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt", "ensemble": "ensemble"}
WEIGHTS = "weights"
"""Parameter in which a Python model's configuration names the files it reads from its version folder, `*` allowed."""
OPTIONAL = "optional"
"""Parameter, `true` for a model that the system does without where it has not been exported."""
ENGINE = "engine"
"""Parameter in which a Python model's configuration names the model it calls."""
VARIANTS = ("base", "bnb", "awq")
"""Weights of the language model; each has an engine `llm_*` and an ensemble `step_audio_editx_*`."""


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
        needs: models without which it does not load or cannot answer.
        left_out: whether it is not to be loaded.
    """

    name: str
    backend: str
    missing: tuple[Path, ...]
    optional: bool = False
    needs: frozenset[str] = frozenset()
    left_out: bool = False


def read_repository(repository: Path) -> list[Model]:
    """Return every model in `repository` that has a configuration, by name.

    Of the language model one variant suffices: the others are left out where they have not been exported.

    Raises:
        RepositoryError: a `config.pbtxt` is not one.
    """
    models = [_read(path) for path in sorted(repository.glob("*/config.pbtxt"))]
    missing = {model.name for model in models if model.missing}
    engines = {model.name for model in models} & {f"llm_{variant}" for variant in VARIANTS}
    out = {model.name for model in models if model.optional} & missing
    if engines - missing:
        out |= engines & missing
    while more := {model.name for model in models if model.needs & out} - out:
        out |= more
    return [replace(model, left_out=model.name in out) for model in models]


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
    needs = {step.model_name for step in config.ensemble_scheduling.step}
    if ENGINE in config.parameters:
        needs.add(config.parameters[ENGINE].string_value)
    return Model(path.parent.name, backend, missing, optional, frozenset(needs))


def _files(config: Any, backend: str) -> list[str]:
    if backend not in MODEL_FILE:
        return []
    weights = config.parameters[WEIGHTS].string_value.split() if WEIGHTS in config.parameters else []
    return [config.default_model_filename or MODEL_FILE[backend], *weights]
