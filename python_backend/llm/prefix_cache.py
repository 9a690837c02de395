"""Keys and values of prompt beginnings that come again: one voice speaks many texts."""

from collections import OrderedDict
from dataclasses import dataclass

import torch

from python_backend.llm.kv_cache import SlotCache

SHORTEST = 32  # ids; below, computing is as fast as copying


@dataclass(frozen=True)
class _Entry:
    keys: torch.Tensor
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


class PrefixCache:
    """Keeps the most recently used beginnings within a budget of bytes.

    Args:
        budget: bytes; 0 keeps nothing.
    """

    def __init__(self, cache: SlotCache, budget: int):
        self._cache = cache
        self._budget = budget
        self._entries: OrderedDict[tuple[int, ...], _Entry] = OrderedDict()
        self.nbytes = 0
        self.hits = 0
        self.misses = 0

    def load(self, ids: tuple[int, ...], slot: int) -> bool:
        """Copy what belongs to `ids` to the start of `slot`; False where it is not kept."""
        if len(ids) < SHORTEST:
            return False
        entry = self._entries.get(ids)
        if entry is None:
            self.misses += 1
            return False
        self._entries.move_to_end(ids)
        self._cache.keys[:, slot, :, : len(ids)] = entry.keys
        self._cache.values[:, slot, :, : len(ids)] = entry.values
        self.hits += 1
        return True

    def store(self, ids: tuple[int, ...], slot: int) -> None:
        """Keep a copy of the start of `slot`, which `ids` were computed into."""
        if len(ids) < SHORTEST or ids in self._entries:
            return
        keys, values = (part[:, slot, :, : len(ids)] for part in (self._cache.keys, self._cache.values))
        if keys.numel() * keys.itemsize * 2 > self._budget:
            return
        entry = _Entry(keys.clone(), values.clone())
        self._entries[ids] = entry
        self.nbytes += entry.nbytes
        while self.nbytes > self._budget:
            _, oldest = self._entries.popitem(last=False)
            self.nbytes -= oldest.nbytes
