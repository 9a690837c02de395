"""The flow's estimator and solver on one chunk after the other, for several streams at once."""

from dataclasses import dataclass
from typing import Self, cast

import torch
from torch.nn import functional as F

from python_backend.token2wav.dit import (
    BLOCK_VECTORS,
    FINAL_VECTORS,
    Attention,
    Block,
    CausalConv,
    ConvBlock,
    DiT,
    modulated_norm,
)
from python_backend.token2wav.streaming.memory import AttentionMemory


@dataclass
class EstimatorState:
    """What the estimator remembers between chunks: each solver step goes on from its own past.

    Attributes:
        memory: of attention, [steps, blocks, rows, heads, frames, head_dim]. Rows are with and without context; without
            guidance there is only the first.
        conv_past: [steps, blocks, 2, rows, 2, C], the last inputs of each block's two convolutions.
    """

    memory: AttentionMemory
    conv_past: torch.Tensor

    @classmethod
    def empty(cls, estimator: DiT, steps: int, rows: int, prompt: int, context: int, chunk: int) -> Self:
        """Make the state before the first chunk; sizes of `AttentionMemory` in mel frames."""
        block = _blocks(estimator)[0]
        like, heads = block.attn.proj.weight, block.attn.heads
        width, inner = like.shape
        lead = (steps, len(estimator.blocks), rows)
        memory = AttentionMemory(lead, heads, inner // heads, prompt, context, chunk, like)
        taps = cast(CausalConv, block.conv.block["1"]).kernel_size[0]
        return cls(memory, like.new_zeros(steps, len(estimator.blocks), 2, rows, taps - 1, width))

    def fork(self, context: int, chunk: int) -> Self:
        """Copy the state as the prompt of a new stream; sizes in mel frames."""
        return type(self)(self.memory.fork(context, chunk), self.conv_past.clone())

    def forked_nbytes(self, context: int, chunk: int) -> int:
        """Return the bytes that a copy by `fork` takes."""
        return self.memory.forked_nbytes(context, chunk) + self.conv_past.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes taken."""
        return self.memory.nbytes + self.conv_past.nbytes


def velocity_chunk(
    estimator: DiT,
    states: list[EstimatorState],
    step: int,
    x: torch.Tensor,
    context: torch.Tensor,
    modulation: torch.Tensor,
) -> torch.Tensor:
    """Evaluate the velocity of a chunk of every stream at one solver step.

    Args:
        estimator: with weights.
        states: of the streams; what this step has to remember is written, but not counted yet.
        step: solver step.
        x: float32 [S * rows, T, mel], the rows of one stream next to each other.
        context: float32 [S * rows, T, C] of `DiT.context`.
        modulation: float32 [9 * depth + 2, C], this step's.

    Returns:
        float32 [S * rows, T, mel].
    """
    hidden = F.linear(x, estimator.in_proj.weight[:, : estimator.mel_channels], estimator.in_proj.bias) + context
    for index, block in enumerate(_blocks(estimator)):
        vectors = modulation[index * BLOCK_VECTORS : (index + 1) * BLOCK_VECTORS]
        attn_shift, attn_scale, attn_gate, mlp_shift, mlp_scale, mlp_gate, conv_shift, conv_scale, conv_gate = vectors
        dtype = block.attn.proj.weight.dtype
        normed = modulated_norm(hidden, attn_shift, attn_scale, dtype)
        hidden = torch.addcmul(hidden, attn_gate, _attend(block.attn, normed, states, (step, index)))
        normed = modulated_norm(hidden, conv_shift, conv_scale, dtype)
        hidden = torch.addcmul(hidden, conv_gate, _convolve(block.conv, normed, states, (step, index)))
        normed = modulated_norm(hidden, mlp_shift, mlp_scale, dtype)
        hidden = torch.addcmul(hidden, mlp_gate, block.mlp(normed))
    velocity: torch.Tensor = estimator.final_layer(hidden, modulation[-FINAL_VECTORS:])
    return velocity


def solve_chunk(
    estimator: DiT,
    states: list[EstimatorState],
    noise: torch.Tensor,
    context: torch.Tensor,
    times: torch.Tensor,
    modulation: torch.Tensor,
    guidance: float,
) -> torch.Tensor:
    """Integrate a chunk of every stream as `solver.solve` does, and remember it.

    Args:
        estimator: with weights.
        states: of the streams; updated.
        noise: float32 [S, T, mel], the states at time 0.
        context: float32 [S, T, C].
        times: float32 [steps + 1] of `solver.time_grid`.
        modulation: float32 [steps, 9 * depth + 2, C] of `DiT.modulation`.
        guidance: 0 for states of one row.

    Returns:
        float32 [S, T, mel].
    """
    guided = guidance != 0
    if guided:
        context = torch.stack([context, torch.zeros_like(context)], dim=1).flatten(0, 1)
    x = noise
    for step in range(len(times) - 1):
        rows = x.repeat_interleave(2, dim=0) if guided else x
        velocity = velocity_chunk(estimator, states, step, rows, context, modulation[step])
        if guided:
            velocity = (1 + guidance) * velocity[::2] - guidance * velocity[1::2]
        x = x + float(times[step + 1] - times[step]) * velocity
    for state in states:
        state.memory.commit(x.shape[1])
    return x


def _attend(layer: Attention, x: torch.Tensor, states: list[EstimatorState], index: tuple[int, int]) -> torch.Tensor:
    split = (x.shape[0], x.shape[1], layer.heads, -1)
    query = layer.q_norm(layer.to_q(x).reshape(split)).transpose(1, 2)
    key = layer.k_norm(layer.to_k(x).reshape(split)).transpose(1, 2)
    value = layer.to_v(x).reshape(split).transpose(1, 2)
    attended = []
    for state, q, k, v in zip(states, *(part.chunk(len(states)) for part in (query, key, value)), strict=True):
        attended.append(F.scaled_dot_product_attention(q, *state.memory.append(index, k, v)))
    projected: torch.Tensor = layer.proj(torch.cat(attended).transpose(1, 2).flatten(2))
    return projected


def _convolve(layer: ConvBlock, x: torch.Tensor, states: list[EstimatorState], index: tuple[int, int]) -> torch.Tensor:
    pasts = [state.conv_past[index] for state in states]
    first, second = (cast(CausalConv, layer.block[name]) for name in ("1", "6"))
    hidden = F.mish(layer.block["3"](_continue(first, x, [past[0] for past in pasts])))
    return _continue(second, hidden, [past[1] for past in pasts])


def _continue(conv: CausalConv, x: torch.Tensor, pasts: list[torch.Tensor]) -> torch.Tensor:
    """Apply `CausalConv` after what came before [rows, taps - 1, C], and replace that by the end of `x`."""
    taps, frames = conv.kernel_size[0], x.shape[1]
    padded = torch.cat([torch.cat(pasts), x], dim=1)
    for past, end in zip(pasts, padded[:, frames:].chunk(len(pasts)), strict=True):
        past.copy_(end)
    shifted = torch.cat([padded[:, tap : tap + frames] for tap in range(taps)], dim=-1)
    return F.linear(shifted, conv.weight.transpose(1, 2).flatten(1), conv.bias)


def _blocks(estimator: DiT) -> list[Block]:
    return cast(list[Block], list(estimator.blocks))
