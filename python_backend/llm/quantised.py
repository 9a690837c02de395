"""Linear layers whose matrices are stored in 4 bits: which form a checkpoint has, and its matrices."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from python_backend.llm import nf4
from python_backend.llm.nf4 import NF4Weight
from python_backend.llm.w4a16 import W4A16


class PackedWeight(Protocol):
    """The matrix of one linear layer, in 4 bits."""

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs, inputs."""
        ...

    def dense(self) -> torch.Tensor:
        """Return the matrix in a dtype of its own."""
        ...

    def layer(self, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
        """Return a layer that multiplies with the 4 bits as they are, `None` where a dense matrix is to be used."""
        ...


def packed_weights(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, PackedWeight]:
    """Return the 4-bit matrices among `tensors` by layer; a layer that is not among them is stored plainly.

    Which layers were left plain is read from the tensors, not from the lists in the configuration: their patterns
    belong to the library that wrote them.

    Args:
        config: content of the checkpoint's `config.json`; without `quantization_config` nothing is packed.
        tensors: by their names in the checkpoint.

    Raises:
        ValueError: an unknown form, or tensors that contradict each other; the message names the field or tensor.
    """
    quantization = config.get("quantization_config")
    if quantization is None:
        return {}
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    read: Callable[[Mapping[str, torch.Tensor], str], PackedWeight | None]
    if method == "bitsandbytes":
        nf4.check_config(quantization)
        read = NF4Weight.read
    elif method == "compressed-tensors":
        read = W4A16.from_config(quantization).read
    else:
        raise ValueError(
            f"quantization_config.quant_method is {method!r}, must be 'bitsandbytes' or 'compressed-tensors'"
        )
    layers = {name.rpartition(".weight")[0] for name in tensors}
    found = {layer: read(tensors, layer) for layer in sorted(layers)}
    return {layer: weight for layer, weight in found.items() if weight is not None}
