"""Opening an ONNX file the way the model configuration asks for."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from python_backend.onnxruntime_backend.config import WILDCARD, ConfigError, ModelConfig
from python_backend.onnxruntime_backend.validation import NetworkTensor, check

GRAPH_LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def open_session(
    config: ModelConfig, directory: Path, environment: Mapping[str, str] = os.environ, device: int | None = None
) -> Any:
    """Return an `onnxruntime.InferenceSession` of the model file in `directory`, checked against `config`.

    Args:
        config: the model's configuration.
        directory: the version's folder, `<repository>/<model>/<version>`.
        environment: where the thread budget is looked up.
        device: the GPU to run on where ONNX Runtime has its CUDA provider; `None` for the CPU.

    Raises:
        ConfigError: the file is missing or unreadable, or configuration and network do not fit.
    """
    path = directory / config.filename
    if not path.is_file():
        raise ConfigError(
            f"unable to find '{path}' for model '{config.name}': `python -m export build` writes it from a checkpoint"
        )
    try:
        session = onnxruntime.InferenceSession(
            path, sess_options=session_options(config, environment), providers=_providers(device)
        )
    except Exception as error:  # ONNX Runtime's exception classes share no base of their own
        raise ConfigError(f"unable to load '{path}' for model '{config.name}': {error}") from error
    check(
        config,
        _tensors(session.get_inputs()),
        _tensors(session.get_outputs()),
        _tensors(session.get_overridable_initializers()),
    )
    return session


def session_options(config: ModelConfig, environment: Mapping[str, str]) -> onnxruntime.SessionOptions:
    """Translate the configuration keys of NVIDIA's backend, and fill an unset thread count from the budget.

    Raises:
        ConfigError: a value is outside its range.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = GRAPH_LEVELS.get(
        config.graph_level, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    mode = config.integer("execution_mode") or 0
    if mode not in (0, 1):
        raise ConfigError(f"parameter execution_mode must be 0 or 1, is {mode}")
    options.execution_mode = (
        onnxruntime.ExecutionMode.ORT_PARALLEL if mode else onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    )
    options.intra_op_num_threads = config.integer("intra_op_thread_count") or _budget(config.name, environment)
    options.inter_op_num_threads = config.integer("inter_op_thread_count") or 0
    options.enable_cpu_mem_arena = _flag(config, "enable_mem_arena")
    options.enable_mem_pattern = _flag(config, "enable_mem_pattern")
    # A dozen model processes share the cores: a thread that waits by spinning takes time from one that computes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _budget(model: str, environment: Mapping[str, str]) -> int:
    """Return the threads `server` grants this model; 0 leaves the number to ONNX Runtime (one per core)."""
    return int(environment.get(f"ONNXRUNTIME_THREADS_{model.upper()}") or environment.get("ONNXRUNTIME_THREADS") or 0)


def _flag(config: ModelConfig, key: str) -> bool:
    value = config.parameters.get(key, "1").lower()
    if value not in ("0", "1", "false", "true"):
        raise ConfigError(f"parameter {key} must be 0, 1, true or false, is '{value}'")
    return value in ("1", "true")


def _providers(device: int | None) -> list[Any]:
    if device is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": device}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _tensors(nodes: Iterable[Any]) -> dict[str, NetworkTensor]:
    return {
        node.name: NetworkTensor(
            node.name, node.type, tuple(size if isinstance(size, int) else WILDCARD for size in node.shape)
        )
        for node in nodes
    }
