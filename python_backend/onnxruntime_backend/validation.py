"""Whether a configuration fits its network: the rules of NVIDIA's ONNX Runtime backend.

The rules and their order follow `ValidateInputs`, `ValidateOutputs` and `CompareDimsSupported` of
triton-inference-server/onnxruntime_backend (release 24.10), so that what loads here loads there too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from python_backend.onnxruntime_backend.config import WILDCARD, ConfigError, ModelConfig, TensorConfig

# ONNX Runtime's names of element types; bfloat16 is left out because numpy has no such type.
ONNX_TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_UINT16": "tensor(uint16)",
    "TYPE_UINT32": "tensor(uint32)",
    "TYPE_UINT64": "tensor(uint64)",
    "TYPE_INT8": "tensor(int8)",
    "TYPE_INT16": "tensor(int16)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
    "TYPE_STRING": "tensor(string)",
}


@dataclass(frozen=True)
class NetworkTensor:
    """One input or output as the ONNX file declares it: full shape, -1 where a size is free."""

    name: str
    type: str
    shape: tuple[int, ...]


def check(
    config: ModelConfig,
    inputs: Mapping[str, NetworkTensor],
    outputs: Mapping[str, NetworkTensor],
    initializers: Mapping[str, NetworkTensor],
) -> None:
    """Compare `config` with the network's `inputs`, `outputs` and overridable `initializers`.

    Raises:
        ConfigError: the first difference that would make NVIDIA's backend refuse the model.
    """
    required = sum(not tensor.optional for tensor in config.inputs)
    if len(inputs) != required:
        raise ConfigError(
            f"unable to load model '{config.name}', configuration expects {required} inputs, "
            f"model provides {len(inputs)}"
        )
    allowed = {**inputs, **initializers}
    for tensor in config.inputs:
        if tensor.optional and config.batched:
            raise ConfigError(
                f"unable to load model '{config.name}', optional input '{tensor.name}' is not supported for models "
                "that support batching"
            )
        if tensor.ragged:
            raise ConfigError(f"input '{tensor.name}': allow_ragged_batch needs NVIDIA's ONNX Runtime backend")
        network = _find(tensor, allowed, "input")
        _check_type(config, tensor, network, "input")
        _check_shape(config, tensor, network, exact=False)
    for tensor in config.outputs:
        network = _find(tensor, outputs, "output")
        _check_type(config, tensor, network, "output")
        _check_shape(config, tensor, network, exact=True)


def _find(tensor: TensorConfig, known: Mapping[str, NetworkTensor], kind: str) -> NetworkTensor:
    if tensor.name not in known:
        names = ", ".join(sorted(known))
        raise ConfigError(f"unexpected inference {kind} '{tensor.name}', allowed {kind}s are: {names}")
    return known[tensor.name]


def _check_type(config: ModelConfig, tensor: TensorConfig, network: NetworkTensor, kind: str) -> None:
    if tensor.data_type not in ONNX_TYPES:
        raise ConfigError(
            f"unsupported datatype {tensor.data_type} for {kind} '{tensor.name}' for model '{config.name}'"
        )
    if ONNX_TYPES[tensor.data_type] != network.type:
        raise ConfigError(
            f"unable to load model '{config.name}', configuration expects datatype {tensor.data_type} for {kind} "
            f"'{tensor.name}', model provides {network.type}"
        )


def _check_shape(config: ModelConfig, tensor: TensorConfig, network: NetworkTensor, *, exact: bool) -> None:
    if not network.shape:
        if any(size != 1 for size in tensor.dims):
            raise ConfigError(
                f"unable to load model '{config.name}', scalar tensor '{tensor.name}', should only provide 1 in the "
                f"model configuration, provided: {_text(tensor.dims)}"
            )
        return
    if config.batched and network.shape[0] != WILDCARD:
        raise ConfigError(
            f"model '{config.name}', tensor '{tensor.name}': for the model to support batching the shape should have "
            "at least 1 dimension and the first dimension must be -1; but shape expected by the model is "
            f"{_text(network.shape)}"
        )
    configured = (WILDCARD, *tensor.dims) if config.batched else tensor.dims
    # An input may be configured freer or tighter where the network takes any size; outputs must say what comes.
    fits = len(network.shape) == len(configured) and all(
        size == wanted or (size == WILDCARD and not exact)
        for size, wanted in zip(network.shape, configured, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"model '{config.name}', tensor '{tensor.name}': the model expects {len(network.shape)} dimensions (shape "
            f"{_text(network.shape)}) but the model configuration specifies {len(configured)} dimensions (shape "
            f"{_text(configured)}{', batch included' if config.batched else ''})"
        )


def _text(shape: Iterable[int]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"
