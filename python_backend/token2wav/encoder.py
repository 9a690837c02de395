"""The flow's encoder: a conformer with relative positions, look-ahead, and a second stage at twice the rate.

Written against the released parameter names. Source of the structure: Step-Audio-EditX's `stepvocoder`, which follows
CosyVoice 2 (Du et al., 2024) and ESPnet's relative-position attention (Dai et al., 2019, arXiv:1901.02860).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from python_backend.token2wav.config import EncoderConfig
from python_backend.token2wav.masks import valid_positions

LAYER_NORM_EPS = 1e-12  # of the conformer blocks; the embeddings and the last norm use 1e-5
QUERY_BLOCK = 64  # bounds the memory of the relative-position scores, which are otherwise [heads, T, 2T]


def relative_positions(size: int, width: int, device: torch.device) -> torch.Tensor:
    """Make the sinusoidal encodings of relative positions size, size - 1 … -(size - 1).

    Returns:
        float32 [2 * size, width], sine on even columns, cosine on odd ones (Vaswani et al., 2017).
    """
    frequency = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    distance = size - torch.arange(2 * size, device=device)
    angle = distance[:, None].to(torch.float32) * frequency
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(1)


class RelativeAttention(nn.Module):
    """Multi-head self-attention with content and relative-position scores."""

    def __init__(self, width: int, heads: int, key_bias: bool):
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width, bias=key_bias)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))

    def forward(self, x: torch.Tensor, positions: torch.Tensor, closed: torch.Tensor | None) -> torch.Tensor:
        """Attend from every position to those that are not closed.

        Args:
            x: [B, T, C].
            positions: [2T, C] of `relative_positions`.
            closed: [B, 1, 1 or T, T], minus infinity where a query may not look and zero elsewhere; None where it may
                look everywhere.

        Returns:
            [B, T, C].
        """
        query = self._split(self.linear_q(x))
        key = self._split(self.linear_k(x))
        value = self._split(self.linear_v(x))
        position = self._split(self.linear_pos(positions)[None]).transpose(-2, -1)
        content_query = query + self.pos_bias_u[:, None]
        position_query = (query + self.pos_bias_v[:, None]) / math.sqrt(query.shape[-1])

        # A traced graph holds no loop over a dynamic length: it takes all queries as one block.
        size = x.shape[1]
        tracing = torch.onnx.is_in_onnx_export()
        outputs = []
        for start in range(0, size, size if tracing else QUERY_BLOCK):
            stop = size if tracing else min(start + QUERY_BLOCK, size)
            bias = _align(position_query[:, :, start:stop] @ position[..., size - stop : 2 * size - start], size)
            if closed is not None:
                bias = bias + (closed if closed.shape[2] == 1 else closed[:, :, start:stop])
            outputs.append(F.scaled_dot_product_attention(content_query[:, :, start:stop], key, value, attn_mask=bias))
        attended = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
        return self.linear_out(attended.transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def _align(scores: torch.Tensor, keys: int) -> torch.Tensor:
    """Turn columns of relative positions into columns of keys, without a copy.

    Key j of query i is in column Q - i + j. Read as one sequence from column Q on, rows of one column less put it into
    column j.

    Args:
        scores: [B, H, Q, Q + keys].

    Returns:
        [B, H, Q, keys].
    """
    batch, heads, queries, _ = scores.shape
    return scores.flatten(2)[:, :, queries:].reshape(batch, heads, queries, -1)[..., :keys]


class FeedForward(nn.Module):
    """Two linear layers with swish in between."""

    def __init__(self, width: int, units: int):
        super().__init__()
        self.w_1 = nn.Linear(width, units)
        self.w_2 = nn.Linear(units, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., C] to [..., C]."""
        return self.w_2(F.silu(self.w_1(x)))


class ConformerBlock(nn.Module):
    """Pre-norm attention and feed-forward; this checkpoint's blocks have no convolution module."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.output_size
        self.self_attn = RelativeAttention(width, config.attention_heads, config.key_bias)
        self.feed_forward = FeedForward(width, config.linear_units)
        self.norm_mha = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.norm_ff = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, closed: torch.Tensor | None) -> torch.Tensor:
        """Map [B, T, C] to [B, T, C]."""
        x = x + self.self_attn(self.norm_mha(x), positions, closed)
        return x + self.feed_forward(self.norm_ff(x))


class Embed(nn.Module):
    """Linear layer and norm in front of a stage, scaled by the square root of the width."""

    def __init__(self, input_size: int, width: int):
        super().__init__()
        self.out = nn.Sequential(nn.Linear(input_size, width), nn.LayerNorm(width, eps=1e-5))
        self.scale = math.sqrt(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, input_size] to [B, T, C]."""
        return self.out(x) * self.scale


class PreLookahead(nn.Module):
    """Lets each position see the next few before attention; causal after that."""

    def __init__(self, width: int, lookahead: int):
        super().__init__()
        self.lookahead = lookahead
        self.conv1 = nn.Conv1d(width, width, lookahead + 1)
        self.conv2 = nn.Conv1d(width, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, C] to [B, T, C]; what lies past the end counts as zeros."""
        y = F.leaky_relu(self.conv1(F.pad(x.transpose(1, 2), (0, self.lookahead))))
        y = self.conv2(F.pad(y, (2, 0)))
        return x + y.transpose(1, 2)


class Upsample(nn.Module):
    """Repeats every position and smooths with a causal convolution."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(width, width, 2 * stride + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, C] to [B, stride * T, C]."""
        repeated = x[:, :, None].expand(-1, -1, self.stride, -1).flatten(1, 2)
        padded = F.pad(repeated.transpose(1, 2), (2 * self.stride, 0))
        return self.conv(padded).transpose(1, 2)


class UpsampleEncoder(nn.Module):
    """Token embeddings at 25 Hz to features at 50 Hz."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.output_size
        self.embed = Embed(config.input_size, width)
        self.pre_lookahead_layer = PreLookahead(width, config.pre_lookahead_len)
        self.encoders = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_blocks))
        self.up_layer = Upsample(width, config.up_stride)
        self.up_embed = Embed(width, width)
        self.up_encoders = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_up_blocks))
        self.after_norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, embedded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode whole utterances; attention is bidirectional, so every output depends on every token.

        Args:
            embedded: float [B, n, input_size].
            lengths: integer [B], positions that count; the rest is padding and changes nothing.

        Returns:
            float [B, up_stride * n, C]; meaningless past up_stride * length.
        """
        valid = valid_positions(lengths, embedded.shape[1])
        # Padding holds the embedding's bias by now; the look-ahead has to find zeros there, as past a true end.
        x = self.pre_lookahead_layer(self.embed(embedded) * valid[..., None])
        x = self._stage(self.encoders, x, valid)
        x = self.up_embed(self.up_layer(x))
        x = self._stage(self.up_encoders, x, valid_positions(lengths * self.up_layer.stride, x.shape[1]))
        return self.after_norm(x)

    @staticmethod
    def _stage(blocks: nn.ModuleList, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        positions = relative_positions(x.shape[1], x.shape[2], x.device)
        closed = None
        if torch.onnx.is_in_onnx_export() or not bool(valid.all()):
            closed = torch.zeros_like(valid, dtype=x.dtype).masked_fill(~valid, -math.inf)[:, None, None]
        for block in blocks:
            x = block(x, positions, closed)
        return x
