"""What attention remembers of the frames before a chunk, in a buffer of fixed size."""

from typing import Self

import torch


class AttentionMemory:
    """Keys and values of a prompt, of the most recent frames after it, and room for one chunk.

    Frames lie in the order of time. Room is taken once; nothing grows.

    Args:
        lead: dimensions in front: one memory for all layers, solver steps and rows.
        heads: attention heads.
        head_dim: width of one.
        prompt: first frames, which stay for good.
        context: frames that stay after the prompt, the newest ones.
        chunk: the most frames that come at once.
        like: gives dtype and device.
    """

    def __init__(
        self,
        lead: tuple[int, ...],
        heads: int,
        head_dim: int,
        prompt: int,
        context: int,
        chunk: int,
        like: torch.Tensor,
    ):
        shape = (*lead, heads, prompt + context + chunk, head_dim)
        self.prompt, self.context, self.chunk = prompt, context, chunk
        self.keys = like.new_empty(shape)
        self.values = like.new_empty(shape)
        self.filled = 0  # frames held
        self.dropped = 0  # frames forgotten, all of them between prompt and context

    def append(
        self, index: tuple[int, ...], keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a chunk's [..., heads, T, head_dim] at `index`; return all held there, the chunk's at the end."""
        stop = self.filled + keys.shape[-2]
        all_keys, all_values = self.keys[index][..., :stop, :], self.values[index][..., :stop, :]
        all_keys[..., self.filled :, :] = keys
        all_values[..., self.filled :, :] = values
        return all_keys, all_values

    def commit(self, frames: int) -> None:
        """Count the appended frames as held, now that every index has them, and forget the oldest beyond `context`."""
        self.filled += frames
        surplus = self.filled - self.prompt - self.context
        if surplus > 0:
            kept = slice(self.prompt, self.prompt + self.context)
            newest = slice(self.filled - self.context, self.filled)
            for buffer in (self.keys, self.values):
                buffer[..., kept, :] = buffer[..., newest, :].clone()
            self.filled -= surplus
            self.dropped += surplus

    def fork(self, context: int, chunk: int) -> Self:
        """Copy what is held, as the prompt of a new memory."""
        *lead, heads, _, head_dim = self.keys.shape
        copy = type(self)(tuple(lead), heads, head_dim, self.filled, context, chunk, self.keys)
        copy.keys[..., : self.filled, :] = self.keys[..., : self.filled, :]
        copy.values[..., : self.filled, :] = self.values[..., : self.filled, :]
        copy.filled = self.filled
        return copy

    def forked_nbytes(self, context: int, chunk: int) -> int:
        """Return the bytes that a copy by `fork` takes."""
        return self.nbytes // self.keys.shape[-2] * (self.filled + context + chunk)

    @property
    def nbytes(self) -> int:
        """Bytes taken, however much is held."""
        return self.keys.nbytes + self.values.nbytes
