"""Attention with the √-ALiBi bias over the slot cache, in two forms that the network does not tell apart."""

from typing import Protocol

import torch
import torch.nn.functional as F

from python_backend.llm import alibi
from python_backend.llm.kv_cache import SlotCache


class Attend(Protocol):
    """What one forward pass attends to: made once per pass, called once per layer."""

    def __call__(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Store `k` and `v`, and attend to all that is stored up to each token.

        Args:
            q: [batch, tokens, heads · head_dim]; head h reads group h // heads per group.
            k, v: [batch, tokens, groups · head_dim].

        Returns:
            As `q`.
        """
        ...


class MaskedAttention:
    """Torch's attention with the bias as its mask: any number of tokens, on any device.

    Args:
        slope: float32 [groups, heads per group].
        positions: int64 [batch, tokens], absolute; negative in rows that hold no request, whose result is void.
        first_slot: row b of the batch is slot `first_slot + b`.
        rows: leading rows that may hold a request; the others get zeros.
        length: keys to read; above every position, at most the cache's capacity.
    """

    def __init__(
        self,
        cache: SlotCache,
        slope: torch.Tensor,
        positions: torch.Tensor,
        first_slot: int,
        rows: int,
        length: int,
    ):
        positions = positions[:rows]
        slots = slice(first_slot, first_slot + rows)
        self._keys, self._values = cache.keys[:, slots], cache.values[:, slots]
        self._write = torch.where(positions < 0, cache.unused_position, positions)
        self._row = torch.arange(rows, device=positions.device)[:, None]
        self._bias = alibi.bias(slope, positions.clamp(min=0), length, cache.keys.dtype)
        self._groups, self._per_group = slope.shape

    def __call__(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See `Attend`."""
        rows, (batch, tokens, _) = len(self._row), q.shape
        keys, values = self._keys[layer], self._values[layer]
        keys[self._row, :, self._write] = k[:rows].unflatten(-1, (self._groups, -1))
        values[self._row, :, self._write] = v[:rows].unflatten(-1, (self._groups, -1))

        # The heads of a group become further queries of its one key head, so keys are read once and never repeated.
        split = q[:rows].unflatten(-1, (self._groups, self._per_group, -1))
        queries = split.permute(0, 2, 3, 1, 4).flatten(2, 3)
        length = self._bias.shape[-1]
        y = F.scaled_dot_product_attention(queries, keys[:, :, :length], values[:, :, :length], attn_mask=self._bias)
        y = y.unflatten(2, (self._per_group, tokens)).permute(0, 3, 1, 2, 4).reshape(rows, tokens, -1)
        return F.pad(y, (0, 0, 0, 0, 0, batch - rows)) if rows < batch else y


class DecodeAttention:
    """One token per slot on a GPU, the bias computed inside the kernel; the work follows each row's own length.

    Nothing in it depends on how far the requests are, so a CUDA graph of it serves them all.

    Args:
        slope: float32 [groups, heads per group].
        positions: int64 [batch, 1]; row b is slot b; negative in rows that hold no request, whose result is zero.
    """

    def __init__(self, cache: SlotCache, slope: torch.Tensor, positions: torch.Tensor):
        self._cache = cache
        self._slope = slope
        self._positions = positions

    def __call__(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See `Attend`."""
        from python_backend.llm import kernels

        keys, values = self._cache.keys[layer], self._cache.values[layer]
        y = kernels.decode_attention(q[:, 0], k[:, 0], v[:, 0], keys, values, self._positions[:, 0], self._slope)
        return y[:, None]
