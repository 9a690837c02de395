"""The flow's estimator: a diffusion transformer (Peebles & Xie, 2023) with a causal convolution in every block.

Written against the released parameter names. All shifts, scales and gates depend on the time alone, so they are
computed once per time (`modulation`) and not once per row and step; likewise everything in the input projection but
the state itself is constant through a solve (`context`).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from python_backend.token2wav.config import EstimatorConfig

TIME_SCALE = 1000.0
TIME_FREQUENCIES = 128
MAX_PERIOD = 10000.0
MODULATION_EPS = 1e-6
BLOCK_VECTORS = 9  # shift, scale and gate of attention, MLP and convolution, in the order the checkpoint stores them
FINAL_VECTORS = 2


def modulated_norm(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Normalise [..., C] and apply `scale` and `shift` [C] as the norm's own weight and bias, in one pass."""
    return F.layer_norm(x, (int(x.shape[-1]),), 1 + scale, shift, MODULATION_EPS).to(dtype)


class TimeEmbedder(nn.Module):
    """Sinusoids of the time, then two linear layers. Angles reach 1000 rad: this stays in float32."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """Map times [R] in 0 … 1 to [R, C]."""
        index = torch.arange(TIME_FREQUENCIES, device=time.device) / TIME_FREQUENCIES
        angle = (time * TIME_SCALE)[:, None] * torch.exp(-math.log(MAX_PERIOD) * index)
        return self.mlp(torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1))


class Attention(nn.Module):
    """Multi-head self-attention with normalised queries and keys; no positions, the convolution supplies them."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        width, inner = config.hidden_size, config.num_heads * config.head_dim
        self.heads = config.num_heads
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.q_norm = nn.LayerNorm(config.head_dim)
        self.k_norm = nn.LayerNorm(config.head_dim)
        self.proj = nn.Linear(inner, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Map [R, T, C] to [R, T, C]; `mask` bool [R, 1, 1, T] is True for the keys that count."""
        split = (x.shape[0], x.shape[1], self.heads, -1)
        query = self.q_norm(self.to_q(x).reshape(split)).transpose(1, 2)
        key = self.k_norm(self.to_k(x).reshape(split)).transpose(1, 2)
        value = self.to_v(x).reshape(split).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.proj(attended.transpose(1, 2).flatten(2))


class CausalConv(nn.Conv1d):
    """Convolution over time that sees only the past, on [R, T, C].

    As one matrix product over shifted copies it runs about twice as fast on CPUs as a convolution between two
    transpositions, and equally fast in float32.
    """

    def __init__(self, width: int, taps: int):
        super().__init__(width, width, taps)
        # In memory the weight is [out, taps, in], so that flattening it for the product copies nothing.
        self.weight = nn.Parameter(self.weight.detach().transpose(1, 2).contiguous().transpose(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [R, T, C] to [R, T, C]."""
        taps, frames = self.kernel_size[0], x.shape[1]
        padded = F.pad(x, (0, 0, taps - 1, 0))
        shifted = torch.cat([padded[:, tap : tap + frames] for tap in range(taps)], dim=-1)
        return F.linear(shifted, self.weight.transpose(1, 2).flatten(1), self.bias)


class ConvBlock(nn.Module):
    """Two causal convolutions with a norm and Mish in between."""

    def __init__(self, width: int):
        super().__init__()
        # The keys are the positions of these layers in the sequence the checkpoint was saved from.
        self.block = nn.ModuleDict({"1": CausalConv(width, 3), "3": nn.LayerNorm(width), "6": CausalConv(width, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [R, T, C] to [R, T, C]."""
        return self.block["6"](F.mish(self.block["3"](self.block["1"](x))))


class Mlp(nn.Module):
    """Two linear layers with the tanh form of GELU in between."""

    def __init__(self, width: int, units: int):
        super().__init__()
        self.fc1 = nn.Linear(width, units)
        self.fc2 = nn.Linear(units, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [R, T, C] to [R, T, C]."""
        hidden = self.fc1(x)
        # torch's bfloat16 tanh form takes longer than the product on a CPU. The exact form has a fast kernel and is
        # within 5e-4 of it, less than half the spacing of bfloat16 numbers wherever the two differ that much.
        exact = hidden.dtype == torch.bfloat16 and hidden.device.type == "cpu"
        return self.fc2(F.gelu(hidden, approximate="none" if exact else "tanh"))


class Modulation(nn.Module):
    """SiLU and a linear layer from the time embedding to `count` vectors."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.adaLN_modulation = nn.ModuleDict({"1": nn.Linear(width, count * width)})

    def vectors(self, embedded_time: torch.Tensor) -> torch.Tensor:
        """Map [R, C] to [R, count, C]."""
        flat = self.adaLN_modulation["1"](F.silu(embedded_time))
        return flat.reshape(flat.shape[0], -1, embedded_time.shape[-1])


class Block(Modulation):
    """Attention, convolution, MLP: each on the modulated norm of the state, gated and added to it."""

    def __init__(self, config: EstimatorConfig):
        super().__init__(config.hidden_size, BLOCK_VECTORS)
        self.attn = Attention(config)
        self.mlp = Mlp(config.hidden_size, int(config.hidden_size * config.mlp_ratio))
        self.conv = ConvBlock(config.hidden_size)

    def forward(self, x: torch.Tensor, vectors: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Map float32 [R, T, C] to the same; the three branches compute in their weights' dtype."""
        dtype = self.attn.proj.weight.dtype
        attn_shift, attn_scale, attn_gate, mlp_shift, mlp_scale, mlp_gate, conv_shift, conv_scale, conv_gate = vectors
        x = torch.addcmul(x, attn_gate, self.attn(modulated_norm(x, attn_shift, attn_scale, dtype), mask))
        x = torch.addcmul(x, conv_gate, self.conv(modulated_norm(x, conv_shift, conv_scale, dtype)))
        return torch.addcmul(x, mlp_gate, self.mlp(modulated_norm(x, mlp_shift, mlp_scale, dtype)))


class FinalLayer(Modulation):
    """From the state to the velocity, in float32."""

    def __init__(self, config: EstimatorConfig):
        super().__init__(config.hidden_size, FINAL_VECTORS)
        self.linear = nn.Linear(config.hidden_size, config.out_channels)

    def forward(self, x: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Map [R, T, C] to [R, T, mel]."""
        shift, scale = vectors
        return self.linear(modulated_norm(x, shift, scale, x.dtype))


class DiT(nn.Module):
    """The velocity field of the flow.

    A row is one evaluation: classifier-free guidance uses two per utterance.
    """

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        self.mel_channels = config.out_channels
        self.t_embedder = TimeEmbedder(config.hidden_size)
        self.in_proj = nn.Linear(config.in_channels, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def context(self, mu: torch.Tensor, speaker: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Project what stays constant through a solve; a row of zeros is the unconditional context.

        Args:
            mu: [R, T, mel], encoder output.
            speaker: [R, mel], projected speaker embedding.
            condition: [R, T, mel], prompt mel, zeros elsewhere.

        Returns:
            [R, T, C].
        """
        constant = torch.cat([mu, speaker[:, None].expand_as(mu), condition], dim=-1)
        return F.linear(constant, self.in_proj.weight[:, self.mel_channels :])

    def modulation(self, time: torch.Tensor) -> torch.Tensor:
        """Compute every shift, scale and gate for times [R] in 0 … 1: float32 [R, 9 * depth + 2, C]."""
        embedded = self.t_embedder(time)
        blocks: list[Modulation] = [*self.blocks, self.final_layer]
        return torch.cat([block.vectors(embedded) for block in blocks], dim=1)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, modulation: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Evaluate the velocity of several rows at one time.

        Args:
            x: float32 [R, T, mel], states.
            context: float32 [R, T, C] of `context`.
            modulation: float32 [9 * depth + 2, C], one time's entry of `modulation`.
            mask: bool [R, T], True for frames that count; None when all do.

        Returns:
            float32 [R, T, mel]; meaningless where the mask is False.
        """
        keys = None if mask is None else mask[:, None, None]
        hidden = F.linear(x, self.in_proj.weight[:, : self.mel_channels], self.in_proj.bias) + context
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, modulation[index * BLOCK_VECTORS : (index + 1) * BLOCK_VECTORS], keys)
        return self.final_layer(hidden, modulation[-FINAL_VECTORS:])

    def cast_blocks(self, dtype: torch.dtype) -> None:
        """Let the blocks' linear layers and convolutions compute in `dtype`.

        The state between blocks, the modulation and the first and last projection stay in float32.
        """
        for block in self.blocks:
            for branch in (block.attn, block.conv, block.mlp):
                branch.to(dtype)
