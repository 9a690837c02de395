"""The flow's encoder on one chunk after the other."""

import math
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import nn
from torch.nn import functional as F

from python_backend.token2wav.encoder import (
    ConformerBlock,
    PreLookahead,
    RelativeAttention,
    UpsampleEncoder,
    _align,
    relative_positions,
)
from python_backend.token2wav.streaming.memory import AttentionMemory


@dataclass
class EncoderState:
    """What the encoder remembers between chunks.

    Attributes:
        lookahead_past: float32 [1, C, 2], the second look-ahead convolution's last inputs.
        upsample_past: float32 [1, C, 2 * stride], the up-sampling convolution's last inputs.
        lower: memory of the blocks before up-sampling, [blocks, 1, heads, frames, head_dim].
        upper: memory of the blocks after it.
    """

    lookahead_past: torch.Tensor
    upsample_past: torch.Tensor
    lower: AttentionMemory
    upper: AttentionMemory

    @classmethod
    def empty(cls, encoder: UpsampleEncoder, prompt: int, context: int, chunk: int) -> Self:
        """Make the state before the first chunk; sizes of `AttentionMemory` in token pairs."""
        like = encoder.after_norm.weight
        width, stride = like.shape[0], encoder.up_layer.stride

        def memory(blocks: nn.ModuleList, rate: int) -> AttentionMemory:
            heads = cast(ConformerBlock, blocks[0]).self_attn.heads
            sizes = (rate * prompt, rate * context, rate * chunk)
            return AttentionMemory((len(blocks), 1), heads, width // heads, *sizes, like)

        return cls(
            like.new_zeros(1, width, encoder.pre_lookahead_layer.conv2.kernel_size[0] - 1),
            like.new_zeros(1, width, encoder.up_layer.conv.kernel_size[0] - 1),
            memory(encoder.encoders, 1),
            memory(encoder.up_encoders, stride),
        )

    def fork(self, context: int, chunk: int) -> Self:
        """Copy the state as the prompt of a new stream; sizes in token pairs."""
        rate = self.upper.filled // self.lower.filled
        lower, upper = self.lower.fork(context, chunk), self.upper.fork(rate * context, rate * chunk)
        return type(self)(self.lookahead_past.clone(), self.upsample_past.clone(), lower, upper)

    def forked_nbytes(self, context: int, chunk: int) -> int:
        """Return the bytes that a copy by `fork` takes."""
        rate = self.upper.filled // self.lower.filled
        memories = self.lower.forked_nbytes(context, chunk) + self.upper.forked_nbytes(rate * context, rate * chunk)
        return self.lookahead_past.nbytes + self.upsample_past.nbytes + memories

    @property
    def nbytes(self) -> int:
        """Bytes taken."""
        return self.lookahead_past.nbytes + self.upsample_past.nbytes + self.lower.nbytes + self.upper.nbytes


def encode_chunk(encoder: UpsampleEncoder, state: EncoderState, embedded: torch.Tensor, last: bool) -> torch.Tensor:
    """Encode one chunk; every frame attends to all of the chunk and all that the state remembers.

    Args:
        encoder: with weights.
        state: of this stream; updated.
        embedded: float [1, n, input_size], ending with the look-ahead unless last.
        last: what follows counts as zeros.

    Returns:
        float [1, stride * m, C]; m is n if last, else n without the look-ahead.
    """
    lookahead = encoder.pre_lookahead_layer
    x = encoder.embed(embedded)
    if last:
        x = F.pad(x, (0, 0, 0, lookahead.lookahead))
    x, state.lookahead_past = _look_ahead(lookahead, x, state.lookahead_past)
    x = _stage(encoder.encoders, x, state.lower)
    repeated = x[:, :, None].expand(-1, -1, encoder.up_layer.stride, -1).flatten(1, 2).transpose(1, 2)
    repeated = torch.cat([state.upsample_past, repeated], dim=2)
    state.upsample_past = repeated[:, :, -state.upsample_past.shape[2] :].clone()
    x = encoder.up_embed(encoder.up_layer.conv(repeated).transpose(1, 2))
    normed: torch.Tensor = encoder.after_norm(_stage(encoder.up_encoders, x, state.upper))
    return normed


def _look_ahead(layer: PreLookahead, x: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.cat([past, F.leaky_relu(layer.conv1(x.transpose(1, 2)))], dim=2)
    return x[:, : -layer.lookahead] + layer.conv2(y).transpose(1, 2), y[:, :, -past.shape[2] :].clone()


def _stage(blocks: nn.ModuleList, x: torch.Tensor, memory: AttentionMemory) -> torch.Tensor:
    frames = x.shape[1]
    positions = relative_positions(memory.filled + memory.dropped + frames, x.shape[2], x.device)
    for index, block in enumerate(blocks):
        x = _block(cast(ConformerBlock, block), x, positions, memory, index)
    memory.commit(frames)
    return x


def _block(
    block: ConformerBlock, x: torch.Tensor, positions: torch.Tensor, memory: AttentionMemory, index: int
) -> torch.Tensor:
    x = x + _attend(block.self_attn, block.norm_mha(x), positions, memory, index)
    return x + block.feed_forward(block.norm_ff(x))


def _attend(
    layer: RelativeAttention, x: torch.Tensor, positions: torch.Tensor, memory: AttentionMemory, index: int
) -> torch.Tensor:
    query, frames = layer._split(layer.linear_q(x)), x.shape[1]
    keys, values = memory.append((index,), layer._split(layer.linear_k(x)), layer._split(layer.linear_v(x)))
    position_query = (query + layer.pos_bias_v[:, None]) / math.sqrt(query.shape[-1])

    # Row r of the positions is the distance from the chunk's end to frame r. Keys keep the distances they had before
    # frames between prompt and context were forgotten, so the two are aligned each on its own.
    biases = []
    prompt = min(memory.prompt, keys.shape[2])
    for first, count in ((0, prompt), (prompt + memory.dropped, keys.shape[2] - prompt)):
        distances = layer.linear_pos(positions[None, first : first + frames + count])
        biases.append(_align(position_query @ layer._split(distances).transpose(-2, -1), count))
    bias = torch.cat(biases, dim=-1)
    attended = F.scaled_dot_product_attention(query + layer.pos_bias_u[:, None], keys, values, attn_mask=bias)
    projected: torch.Tensor = layer.linear_out(attended.transpose(1, 2).flatten(2))
    return projected
