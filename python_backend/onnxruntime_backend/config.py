"""The parts of a Triton model configuration this backend reads, from the JSON form that Triton hands over."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WILDCARD = -1


class ConfigError(ValueError):
    """The configuration and the model file do not belong together; the message says where."""


@dataclass(frozen=True)
class TensorConfig:
    """One input or output as configured: `dims` leave the batch out and are -1 where any size will do."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False
    ragged: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """A model's configuration; `max_batch_size` 0 means that shapes carry no batch dimension."""

    name: str
    max_batch_size: int
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    filename: str
    graph_level: int
    parameters: Mapping[str, str]

    @property
    def batched(self) -> bool:
        """Whether the first dimension of every tensor is the batch."""
        return self.max_batch_size > 0

    def integer(self, key: str) -> int | None:
        """Return the whole number that parameter `key` holds, `None` where it is not configured.

        Raises:
            ConfigError: it holds anything else.
        """
        if key not in self.parameters:
            return None
        try:
            return int(self.parameters[key])
        except ValueError as error:
            raise ConfigError(f"parameter {key} must be a whole number, is '{self.parameters[key]}'") from error


def read(config: Mapping[str, Any]) -> ModelConfig:
    """Pick this backend's part out of `config`, a parsed `ModelConfig` message.

    Raises:
        ConfigError: a feature of NVIDIA's backend is asked for that this one lacks.
    """
    for feature in ("batch_input", "batch_output", "sequence_batching"):
        if config.get(feature):
            raise ConfigError(f"{feature} needs NVIDIA's ONNX Runtime backend, the stand-in does not know it")
    return ModelConfig(
        name=config["name"],
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=tuple(_tensor(entry) for entry in config.get("input", [])),
        outputs=tuple(_tensor(entry) for entry in config.get("output", [])),
        filename=config.get("default_model_filename") or "model.onnx",
        graph_level=int(config.get("optimization", {}).get("graph", {}).get("level", 0)),
        parameters={key: str(value["string_value"]) for key, value in config.get("parameters", {}).items()},
    )


def _tensor(entry: Mapping[str, Any]) -> TensorConfig:
    # Triton's core applies `reshape` on the way in and out, so the network sees the reshaped form.
    dims = entry["reshape"].get("shape", []) if "reshape" in entry else entry["dims"]
    return TensorConfig(
        name=entry["name"],
        data_type=entry["data_type"],
        dims=tuple(int(size) for size in dims),
        optional=bool(entry.get("optional", False)),
        ragged=bool(entry.get("allow_ragged_batch", False)),
    )
