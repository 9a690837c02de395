"""Keys and values of all running requests, one slot each, in memory that is taken once."""

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
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def unused_position(self) -> int:
        """Where rows without a request write."""
        return self.capacity


def bytes_per_token(config: Step1Config, dtype: torch.dtype) -> int:
    """Return the cache bytes of one position of one request."""
    return 2 * config.num_hidden_layers * config.num_attention_groups * config.head_dim * dtype.itemsize
