"""Integers of 4 bits as compressed-tensors' `pack-quantized` format stores them: what llm-compressor's AWQ writes.

Each row of the matrix is cut into groups that share a scale and, in the asymmetric form, a zero point:
weight = (number - zero) · scale, the symmetric form having zero 8 in the stored 0 … 15.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from python_backend.llm import nibbles

ZERO = 8
"""The stored number that means 0 in the symmetric form: numbers are stored unsigned."""
_KERNEL_GROUPS = (32, 64, 128, 256)
_KERNEL_TILES = (8, 4, 2)


@dataclass(frozen=True)
class W4A16:
    """How the matrices of a checkpoint are stored.

    Attributes:
        group_size: inputs that share a scale; `None`: a whole row does.
        symmetric: whether there are no zero points.
    """

    group_size: int | None
    symmetric: bool

    @classmethod
    def from_config(cls, quantization: Mapping[str, Any]) -> Self:
        """Read `quantization_config` of a `config.json`.

        Raises:
            ValueError: it is another format or one this project does not read; the message names the field.
        """
        _expect("format", quantization.get("format"), "pack-quantized")
        for key in ("transform_config", "sparsity_config"):
            _expect(key, quantization.get(key), None, {}, {"format": "dense"})
        groups = quantization.get("config_groups")
        if not isinstance(groups, dict) or len(groups) != 1:
            raise ValueError(f"quantization_config.config_groups is {groups!r}, must hold one group")
        (name, group), *_ = groups.items()
        field = f"config_groups.{name}"
        if not isinstance(group, dict) or not isinstance(weights := group.get("weights"), dict):
            raise ValueError(f"quantization_config.{field}.weights is missing")
        for key in ("input_activations", "output_activations"):
            _expect(f"{field}.{key}", group.get(key), None)
        _expect(f"{field}.weights.num_bits", weights.get("num_bits"), 4)
        _expect(f"{field}.weights.type", weights.get("type", "int"), "int")
        # "weight" and "static" order the columns while calibrating only; "group" stores them in another order.
        _expect(f"{field}.weights.actorder", weights.get("actorder"), None, "weight", "static")
        _expect(f"{field}.weights.symmetric", weights.get("symmetric"), True, False)
        _expect(f"{field}.weights.strategy", weights.get("strategy"), "group", "channel")
        size = weights.get("group_size") if weights["strategy"] == "group" else None
        if weights["strategy"] == "group" and not (type(size) is int and size > 0):
            raise ValueError(f"quantization_config.{field}.weights.group_size is {size!r}, must be a positive integer")
        return cls(size, weights["symmetric"])

    def read(self, tensors: Mapping[str, torch.Tensor], layer: str) -> "W4A16Weight | None":
        """Return the matrix of `layer`, `None` where it is not stored in this form.

        Raises:
            ValueError: a part is missing or contradicts the others; the message names it.
        """
        name = f"{layer}.weight"
        if f"{name}_packed" not in tensors:
            return None
        parts = ["packed", "scale", "shape", *([] if self.symmetric else ["zero_point"])]
        if missing := [part for part in parts if f"{name}_{part}" not in tensors]:
            raise ValueError(f"{name}_{missing[0]} is missing")
        shape = tuple(tensors[f"{name}_shape"].tolist())
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"{name}_shape is {shape}")
        outputs, inputs = shape
        size = self.group_size or inputs
        groups = -(-inputs // size)
        sizes = {
            "packed": (outputs, -(-inputs // 8)),
            "scale": (outputs, groups),
            "zero_point": (-(-outputs // 8), groups),
        }
        for part in set(parts) & set(sizes):
            found = tuple(tensors[f"{name}_{part}"].shape)
            if found != sizes[part]:
                raise ValueError(f"{name}_{part} has shape {list(found)}, must have {list(sizes[part])}")
        zero = None if self.symmetric else tensors[f"{name}_zero_point"]
        return W4A16Weight((outputs, inputs), size, tensors[f"{name}_packed"], tensors[f"{name}_scale"], zero)


@dataclass(frozen=True)
class W4A16Weight:
    """The matrix of one linear layer.

    Attributes:
        shape: outputs, inputs.
        group_size: inputs that share a scale.
        packed: int32 [outputs, inputs / 8], the first of eight numbers in the lowest bits.
        scale: [outputs, groups].
        zero_point: int32 [outputs / 8, groups], packed likewise along the outputs; `None`: symmetric.
    """

    shape: tuple[int, int]
    group_size: int
    packed: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor | None

    def dense(self) -> torch.Tensor:
        """Return the matrix in the dtype of its scales, bit by bit what compressed-tensors gives."""
        inputs = self.shape[1]
        numbers = _unpack(self.packed, self.scale.dtype)[:, :inputs]
        scale = self.scale.repeat_interleave(self.group_size, 1)[:, :inputs]
        if self.zero_point is not None:
            numbers = numbers - self.zeros().repeat_interleave(self.group_size, 1)[:, :inputs]
        return numbers * scale

    def zeros(self) -> torch.Tensor:
        """Return the zero points less `ZERO`, [outputs, groups] in the dtype of the scales."""
        if self.zero_point is None:
            return torch.zeros_like(self.scale)
        return _unpack(self.zero_point.T.contiguous(), self.scale.dtype)[:, : self.shape[0]].T

    def layer(self, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
        """Return a layer that multiplies with the 4 bits as they are, `None` where a dense matrix is to be used."""
        if device.type != "cuda":
            return None
        outputs, inputs = self.shape
        fits = self.group_size in _KERNEL_GROUPS and outputs % 8 == 0 and inputs % max(self.group_size, 32) == 0
        if not fits or dtype is not torch.bfloat16:
            what = f"{dtype}, {outputs} x {inputs} in groups of {self.group_size}"
            warnings.warn(f"no int4 kernel for {what}: such layers are expanded and save no memory", stacklevel=2)
            return None
        return W4A16Linear(self, device)

    def kernel_scales(self) -> torch.Tensor:
        """Return bfloat16 [groups, outputs, 2], scale and offset of `(number - 8) · scale + offset`: torch's form."""
        return torch.stack([self.scale, -self.zeros() * self.scale], -1).transpose(0, 1).contiguous().bfloat16()


class W4A16Linear(nn.Module):
    """A linear layer over a matrix of 4-bit integers, by the kernel that comes with torch (compute capability 8.0)."""

    packed: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: W4A16Weight, device: torch.device):
        super().__init__()
        self._group_size = weight.group_size
        tiles = next(tiles for tiles in _KERNEL_TILES if weight.shape[1] % (16 * tiles) == 0)
        low_first = weight.packed.to(device).contiguous().view(torch.uint8)
        high_first = (low_first << 4) | (low_first >> 4)
        packed = torch.ops.aten._convert_weight_to_int4pack(high_first, tiles)
        self.register_buffer("packed", packed, persistent=False)
        self.register_buffer("scales", weight.kernel_scales().to(device), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map bfloat16 [..., inputs] to [..., outputs]."""
        rows = torch.ops.aten._weight_int4pack_mm(x.flatten(0, -2), self.packed, self._group_size, self.scales)
        return rows.view(*x.shape[:-1], -1)


def _unpack(packed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers less `ZERO` of int32 [rows, n] as [rows, 8n]."""
    values = torch.arange(16, dtype=dtype, device=packed.device) - ZERO
    return nibbles.look_up(packed.contiguous().view(torch.uint8).flatten(), values, high_first=False).view(
        len(packed), -1
    )


def _expect(field: str, found: Any, *allowed: Any) -> None:
    if found not in allowed:
        wanted = " or ".join(map(repr, allowed))
        raise ValueError(f"quantization_config.{field} is {found!r}, must be {wanted}")
