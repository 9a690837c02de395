"""Keys and values of all running requests, one slot each, in memory that is taken once."""

import math

import numpy as np
import torch

from python_backend.llm.config import Step1Config


class SlotCache:
    """Keys and values by layer, slot and position.

    A slot is a row of the decode batch, so a step over slots 0 … n-1 reads a plain view: nothing is gathered or copied.

    Attributes:
        keys, values: [layers, slots, groups, capacity + 1, head_dim]. The last position takes the writes of rows that
            hold no request, and is never read.
    """

    def __init__(self, config: Step1Config, slots: int, capacity: int, dtype: torch.dtype, device: torch.device):
        self.slots = slots
        self.capacity = capacity
        shape = (config.num_hidden_layers, slots, config.num_attention_groups, capacity + 1, config.head_dim)
        self.keys, self.values = _zeros(shape, dtype, device), _zeros(shape, dtype, device)

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def unused_position(self) -> int:
        """Where rows without a request write."""
        return self.capacity


def slots_within(budget: int, slots: int, config: Step1Config, capacity: int, dtype: torch.dtype) -> int:
    """Return how many of `slots` fit into `budget` bytes of keys and values.

    Raises:
        ValueError: not even one does.
    """
    positions = config.num_hidden_layers * config.num_attention_groups * (capacity + 1)
    each = 2 * positions * config.head_dim * dtype.itemsize
    if each > budget:
        raise ValueError(f"kv_bytes is {budget}, but one slot of {capacity} positions takes {each}")
    return min(slots, budget // each)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # NumPy asks the system for zeroed pages, which take memory only when they are written to.
    flat = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(flat).view(dtype).view(shape)
