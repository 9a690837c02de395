"""SenseVoice's encoder: SANM layers that see the whole clip, in two stacks with a norm after each.

An, K. et al., FunAudioLLM, 2024; FunASR's `SenseVoiceEncoderSmall`. The layers are those of SAN-M (Gao et al., 2020):
attention beside a memory, which is a depthwise convolution over the values.
"""

from typing import cast

import torch
from torch import Tensor, nn

from export.sanm_encoder import NEVER, FeedForward, sinusoids


class SelfAttention(nn.Module):
    """Attention over all frames of a clip plus the memory of the frames around each."""

    def __init__(self, inputs: int, size: int, heads: int, kernel: int):
        super().__init__()
        self.heads = heads
        self.linear_q_k_v = nn.Linear(inputs, 3 * size)
        self.linear_out = nn.Linear(size, size)
        self.fsmn_block = nn.Conv1d(size, size, kernel, groups=size, bias=False, padding=kernel // 2)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map [B, T, inputs] to [B, T, size]; `present` float32 [B, T, 1] is 0 for frames past a clip's end."""
        query, key, value = self.linear_q_k_v(x).chunk(3, dim=-1)
        memory = value * present
        memory = memory + self.fsmn_block(memory.transpose(1, 2)).transpose(1, 2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        bias = (1.0 - present.transpose(1, 2)[:, None]) * NEVER
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + bias
        attended = torch.softmax(scores, dim=-1) @ value
        return self.linear_out(attended.transpose(1, 2).flatten(2)) + memory


class Layer(nn.Module):
    """One pre-norm layer; where the sizes differ there is no residual around the attention."""

    def __init__(self, inputs: int, size: int, heads: int, units: int, kernel: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(inputs)
        self.self_attn = SelfAttention(inputs, size, heads, kernel)
        self.norm2 = nn.LayerNorm(size)
        self.feed_forward = FeedForward(size, units)
        self.has_residual = inputs == size

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map [B, T, inputs] to [B, T, size]."""
        attended = self.self_attn(self.norm1(x), present)
        x = x + attended if self.has_residual else attended
        return x + self.feed_forward(self.norm2(x))


class SenseVoiceEncoder(nn.Module):
    """The encoder with the released names of its weights.

    Args:
        inputs: size of the input features.
        size: width (`output_size`).
        heads: attention heads.
        units: width of the feed-forward layers (`linear_units`).
        blocks: layers of the first stack (`num_blocks`).
        more_blocks: layers of the second stack (`tp_blocks`).
        kernel: taps of the memory convolution (`kernel_size`), odd.
        longest: most frames a clip can have.
    """

    positions: Tensor

    def __init__(
        self, inputs: int, size: int, heads: int, units: int, blocks: int, more_blocks: int, kernel: int, longest: int
    ):
        super().__init__()
        self.size = size
        self.encoders0 = nn.ModuleList([Layer(inputs, size, heads, units, kernel)])
        self.encoders = nn.ModuleList([Layer(size, size, heads, units, kernel) for _ in range(blocks - 1)])
        self.after_norm = nn.LayerNorm(size)
        self.tp_encoders = nn.ModuleList([Layer(size, size, heads, units, kernel) for _ in range(more_blocks)])
        self.tp_norm = nn.LayerNorm(size)
        self.register_buffer("positions", sinusoids(longest, inputs), persistent=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Encode features [B, T, inputs] with `lengths` int64 [B, 1] true frames to [B, T, size].

        Frames past a clip's length do not influence the others; their own output has no meaning.
        """
        frames = features.shape[1]
        present = (torch.arange(frames) < lengths).float()[..., None]
        x = features * self.size**0.5 + self.positions[:frames]
        for layer in cast("list[Layer]", [*self.encoders0, *self.encoders]):
            x = layer(x, present)
        x = self.after_norm(x)
        for layer in cast("list[Layer]", [*self.tp_encoders]):
            x = layer(x, present)
        return cast("Tensor", self.tp_norm(x))
