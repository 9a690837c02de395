"""The chunked SANM encoder of Paraformer, a whole clip in one pass.

The streaming encoder (Gao et al., SAN-M, 2020; Zhang et al., SCAMA, 2020; FunASR's `SANMEncoderChunkOpt`) takes four
new frames at a time. It sees them behind the five frames before them and, in every layer, attends to the first four
frames of the four windows before as well. What a layer remembers of earlier windows is its own input there, so nothing
runs from one window's output to the next window's input: all windows can go through a layer together.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEW = 4  # new frames per window
OVERLAP = 5  # frames before them that a window sees again
WINDOW = OVERLAP + NEW
LOOK_BACK = 4  # earlier windows whose first NEW frames a window attends to
KEYS = LOOK_BACK * NEW + WINDOW
NEVER = -1e30


@dataclass(frozen=True)
class Windows:
    """Which rows belong together, for N = batch * chunks windows.

    Activations are rows [9 * N, size]: the first frame of every window, then the second of every window, and so on.
    The convolution along a window thus has its inner loop along N, which is long.

    Attributes:
        query_row: int64 [N, heads, 9], rows of `[3 * heads, head_dim]`-split projections that hold a head's queries.
        key_row: int64 [N, heads, 25], rows of its keys; its values follow `heads` rows later.
        attention_bias: float32 [N, 1, 1, 25], 0, or -1e30 for a key that is not there.
        present: float32 [9 * N, 1], 0 for frames past a clip's end.
    """

    query_row: Tensor
    key_row: Tensor
    attention_bias: Tensor
    present: Tensor

    @classmethod
    def of(cls, lengths: Tensor, chunks: int, heads: int) -> "Windows":
        """Lay out clips of `lengths` int64 [B, 1] frames, each padded to 4 * `chunks` frames."""
        chunk = torch.arange(chunks)[:, None]
        seen = torch.arange(WINDOW)
        remembered = torch.arange(NEW).repeat(LOOK_BACK)
        earlier = torch.arange(LOOK_BACK * NEW) // NEW - LOOK_BACK  # -4 … -1: the window a remembered frame is from
        is_remembered = (chunk + earlier >= 0) & (lengths[:, :, None] >= 0)
        is_present = chunk * NEW + seen - OVERLAP < lengths[:, :, None]
        bias = torch.where(torch.cat([is_remembered, is_present], dim=2), 0.0, NEVER)

        count = lengths.shape[0] * chunks
        window = torch.arange(count)[:, None]
        own = seen * count + window
        memory = remembered * count + (window + earlier).clamp(min=0)
        head = torch.arange(heads)[:, None]
        return cls(
            query_row=own[:, None] * (3 * heads) + head,
            key_row=torch.cat([memory, own], dim=1)[:, None] * (3 * heads) + heads + head,
            attention_bias=bias.reshape(-1, 1, 1, KEYS),
            present=is_present.reshape(-1, WINDOW).t().reshape(-1, 1).float(),
        )


class SelfAttention(nn.Module):
    """Attention plus a feed-forward sequential memory: a depthwise convolution over the values of one window."""

    identity_tap: Tensor

    def __init__(self, inputs: int, size: int, heads: int, kernel: int):
        super().__init__()
        self.heads, self.size = heads, size
        self.linear_q_k_v = nn.Linear(inputs, 3 * size)
        self.linear_out = nn.Linear(size, size)
        self.fsmn_block = nn.Conv1d(size, size, kernel, groups=size, bias=False)
        identity = torch.zeros(kernel)
        identity[kernel // 2] = 1.0
        self.register_buffer("identity_tap", identity, persistent=False)

    def forward(self, projected: Tensor, windows: Windows) -> Tensor:
        """Turn projections [9 * N, 3 * size] of the normalised input into [9 * N, size]."""
        rows = projected.reshape(-1, self.size // self.heads)
        query = F.embedding(windows.query_row, rows)
        key = F.embedding(windows.key_row, rows)
        value = F.embedding(windows.key_row + self.heads, rows)
        scores = query @ key.transpose(2, 3) * (self.size // self.heads) ** -0.5
        attended = torch.softmax(scores + windows.attention_bias, dim=-1) @ value
        attended = attended.permute(2, 0, 1, 3).reshape(-1, self.size)

        # Two-dimensional and channels-last is the form ONNX Runtime runs fast. The residual of this block is one more
        # tap, the projection's bias the convolution's, and its sum the addend of the projection: three passes saved.
        memory = (projected[:, 2 * self.size :] * windows.present).reshape(1, WINDOW, -1, self.size).permute(0, 3, 1, 2)
        taps = (self.fsmn_block.weight + self.identity_tap)[..., None]
        pad = (taps.shape[2] // 2, 0)
        memory = F.conv2d(memory, taps, self.linear_out.bias, padding=pad, groups=self.size)
        return torch.addmm(memory.permute(0, 2, 3, 1).reshape(-1, self.size), attended, self.linear_out.weight.t())


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, size: int, units: int):
        super().__init__()
        self.w_1 = nn.Linear(size, units)
        self.w_2 = nn.Linear(units, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [rows, size] to [rows, size]."""
        return self.w_2(F.relu(self.w_1(x)))


class Layer(nn.Module):
    """One pre-norm SANM layer; the first has no residual around its attention, for its input is of another size."""

    EPSILON = 1e-12

    def __init__(self, inputs: int, size: int, heads: int, units: int, kernel: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(inputs, self.EPSILON)
        self.self_attn = SelfAttention(inputs, size, heads, kernel)
        self.norm2 = nn.LayerNorm(size, self.EPSILON)
        self.feed_forward = FeedForward(size, units)

    def project(self, x: Tensor) -> Tensor:
        """Normalise [rows, inputs] and project it to queries, keys and values [rows, 3 * size]."""
        return self.self_attn.linear_q_k_v(self.norm1(x))

    def feed(self, x: Tensor) -> Tensor:
        """Apply the second half of the layer to [rows, size]."""
        return x + self.feed_forward(self.norm2(x))


class SanmEncoder(nn.Module):
    """Paraformer's encoder with the released names of its weights.

    Args:
        inputs: size of the input features.
        size: width (`output_size`).
        heads: attention heads.
        units: width of the feed-forward layers (`linear_units`).
        blocks: layers.
        kernel: taps of the memory convolution (`kernel_size`), odd.
        longest: most frames a clip can have.
    """

    positions: Tensor

    def __init__(self, inputs: int, size: int, heads: int, units: int, blocks: int, kernel: int, longest: int):
        super().__init__()
        self.size, self.heads = size, heads
        self.encoders0 = nn.ModuleList([Layer(inputs, size, heads, units, kernel)])
        self.encoders = nn.ModuleList([Layer(size, size, heads, units, kernel) for _ in range(blocks - 1)])
        self.after_norm = nn.LayerNorm(size, Layer.EPSILON)
        self.register_buffer("positions", sinusoids(longest, inputs), persistent=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Encode features [B, 4 * chunks, inputs] with `lengths` int64 [B, 1] true frames to [B, 4 * chunks, size].

        Frames past a clip's length do not influence the others; their own output has no meaning.
        """
        batch, frames = features.shape[:2]
        chunks = frames // NEW
        windows = Windows.of(lengths, chunks, self.heads)
        x = features * self.size**0.5 + self.positions[:frames]
        # The stream starts with an overlap of zeros that is attended to like any other frame.
        x = F.pad(x, (0, 0, 2 * NEW, 0))

        first, *middle, last = cast("list[Layer]", [*self.encoders0, *self.encoders])
        projected = first.project(x.reshape(-1, x.shape[2])).reshape(batch, chunks + 2, NEW, -1)
        projected = torch.cat([projected[:, :-2, 2 * NEW - OVERLAP :], projected[:, 1:-1], projected[:, 2:]], dim=2)
        projected = projected.permute(2, 0, 1, 3).reshape(-1, projected.shape[3])
        x = first.feed(first.self_attn(projected, windows))
        for layer in middle:
            x = layer.feed(x + layer.self_attn(layer.project(x), windows))
        x = x + last.self_attn(last.project(x), windows)
        x = x[OVERLAP * batch * chunks :]  # only new frames are kept
        x = self.after_norm(last.feed(x)).reshape(NEW, batch, chunks, self.size)
        return x.permute(1, 2, 0, 3).reshape(batch, frames, self.size)


def sinusoids(count: int, size: int) -> Tensor:
    """Return FunASR's position code [count, size] of positions 1 … count, in float32 throughout as it is there."""
    rates = torch.exp(torch.arange(size // 2).float() * -(torch.log(torch.tensor(10_000.0)) / (size / 2 - 1)))
    angles = torch.arange(1, count + 1).float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
