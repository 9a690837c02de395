"""bitsandbytes' 4-bit NormalFloat with double quantisation, in the layout its `Linear4bit` saves.

Along the flattened weight, blocks of 64 values share a scale, their largest magnitude; each value is one of 16 codes
times that scale. The scales are 8-bit codes themselves, in blocks of 256, around their mean (QLoRA, Dettmers et al.
2023, https://arxiv.org/abs/2305.14314, section 3).
"""

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from python_backend.llm import nibbles

STATE = "quant_state.bitsandbytes__nf4"
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def check_config(quantization: Mapping[str, Any]) -> None:
    """Check `quantization_config` of a `config.json`.

    Raises:
        ValueError: it is not NF4; the message names the field.
    """
    for field, wanted in {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}.items():
        if quantization.get(field) != wanted:
            raise ValueError(f"quantization_config.{field} is {quantization.get(field)!r}, must be {wanted!r}")


@dataclass(frozen=True)
class State:
    """What the part `STATE` of a matrix says, a JSON map in bytes.

    Attributes:
        shape: outputs, inputs.
        dtype: what the matrix was quantised from.
        blocksize: values that share a scale.
        nested_blocksize: scales that share one of their own; `None` where scales are plain numbers.
        nested_offset: mean of the scales.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    blocksize: int
    nested_blocksize: int | None
    nested_offset: float

    @classmethod
    def parse(cls, tensor: torch.Tensor, name: str) -> Self:
        """Read the tensor called `name`, uint8 [n].

        Raises:
            ValueError: it does not describe an NF4 matrix; the message names the field.
        """
        try:
            content = json.loads(bytes(tensor.tolist()))
        except ValueError as error:
            raise ValueError(f"{name} is not JSON: {error}") from error

        def field(key: str, fits: Callable[[Any], bool]) -> Any:
            value = content.get(key) if isinstance(content, dict) else None
            if not fits(value):
                raise ValueError(f"{name}: {key} is {value!r}")
            return value

        field("quant_type", lambda value: value == "nf4")
        nested = isinstance(content, dict) and "nested_blocksize" in content
        return cls(
            tuple(field("shape", lambda value: isinstance(value, list) and len(value) == 2 and all(map(_size, value)))),
            _DTYPES[field("dtype", lambda value: isinstance(value, str) and value in _DTYPES)],
            field("blocksize", _size),
            field("nested_blocksize", _size) if nested else None,
            field("nested_offset", lambda value: isinstance(value, float)) if nested else 0.0,
        )

    def sizes(self) -> dict[str, int]:
        """Return how many values each tensor of the matrix has, by the end of its name."""
        values = self.shape[0] * self.shape[1]
        blocks = -(-values // self.blocksize)
        sizes = {"": -(-values // 2), ".absmax": blocks, ".quant_map": 16}
        if self.nested_blocksize:
            sizes |= {".nested_absmax": -(-blocks // self.nested_blocksize), ".nested_quant_map": 256}
        return sizes


@dataclass(frozen=True)
class NF4Weight:
    """The matrix of one linear layer.

    Attributes:
        state: its sizes.
        parts: its tensors by the end of their names; "" is uint8 [n / 2, 1], the first of two values in the upper half.
    """

    state: State
    parts: dict[str, torch.Tensor]

    @classmethod
    def read(cls, tensors: Mapping[str, torch.Tensor], layer: str) -> Self | None:
        """Return the matrix of `layer`, `None` where it is not stored in this form.

        Raises:
            ValueError: a part is missing or contradicts the others; the message names it.
        """
        name = f"{layer}.weight"
        if f"{name}.{STATE}" not in tensors:
            return None
        stored = tensors[f"{name}.{STATE}"]
        state = State.parse(stored, f"{name}.{STATE}")
        parts = {}
        for part, size in state.sizes().items():
            if name + part not in tensors:
                raise ValueError(f"{name}{part} is missing")
            parts[part] = tensors[name + part]
            if parts[part].numel() != size:
                raise ValueError(f"{name}{part} has {parts[part].numel()} values, {STATE} asks for {size}")
        return cls(state, {**parts, f".{STATE}": stored})

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs, inputs."""
        return self.state.shape

    def dense(self) -> torch.Tensor:
        """Return the matrix in the dtype it was quantised from, bit by bit what bitsandbytes gives."""
        count = self.shape[0] * self.shape[1]
        scales = self.parts[".absmax"]
        if self.state.nested_blocksize:
            coarse = self.parts[".nested_absmax"].repeat_interleave(self.state.nested_blocksize)[: scales.numel()]
            scales = self.parts[".nested_quant_map"][scales.int()] * coarse + self.state.nested_offset
        values = nibbles.look_up(self.parts[""].flatten(), self.parts[".quant_map"], high_first=True)[:count]
        return (values * scales.repeat_interleave(self.state.blocksize)[:count]).to(self.state.dtype).view(self.shape)

    def layer(self, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
        """Return a layer that multiplies with the 4 bits as they are, `None` where a dense matrix is to be used."""
        del dtype  # bitsandbytes takes any
        if device.type != "cuda":
            return None
        if importlib.util.find_spec("bitsandbytes") is None:
            warnings.warn("bitsandbytes is not installed: NF4 layers are expanded and save no memory", stacklevel=2)
            return None
        return NF4Linear(self, device)


class NF4Linear(nn.Module):
    """A linear layer over an NF4 matrix, through bitsandbytes."""

    packed: torch.Tensor

    def __init__(self, weight: NF4Weight, device: torch.device):
        super().__init__()
        import bitsandbytes
        from bitsandbytes.functional import QuantState

        self._matmul = bitsandbytes.matmul_4bit
        further = {part.removeprefix("."): tensor for part, tensor in weight.parts.items() if part}
        self._state = QuantState.from_dict(further, device=device)
        self.register_buffer("packed", weight.parts[""].to(device), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., inputs] to [..., outputs]."""
        out: torch.Tensor = self._matmul(x, self.packed.t(), quant_state=self._state)
        return out


def _size(value: Any) -> bool:
    return type(value) is int and value > 0
