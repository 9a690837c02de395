"""The Step1 decoder: RMSNorm, grouped-query attention with √-ALiBi, SwiGLU, no biases, an output head of its own.

Modules carry the names of the released state dict. `embed_tokens` and `lm_head` are separate tensors always: the
released `config.json` leaves `tie_word_embeddings` out, which some libraries read as "tied" and then speak noise.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from python_backend.llm import alibi
from python_backend.llm.config import Step1Config
from python_backend.llm.kv_cache import SlotCache


@dataclass(frozen=True)
class Step:
    """Where the tokens of one forward pass stand.

    Args:
        cache: read and extended by the pass.
        first_slot: row b of the batch is slot `first_slot + b`.
        write: int64 [batch, tokens], the cache position that takes each token's key and value.
        bias: [batch, groups, heads per group · tokens, length], see `alibi.bias`; `length` keys are read.
    """

    cache: SlotCache
    first_slot: int
    write: torch.Tensor
    bias: torch.Tensor


class RMSNorm(nn.Module):
    """x / rms(x) · weight, the mean square in float32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension."""
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return x * scale.to(x.dtype) * self.weight


class Attention(nn.Module):
    """Grouped-query attention over the slot cache; head h reads group h // heads_per_group."""

    def __init__(self, config: Step1Config, layer: int):
        super().__init__()
        self.layer = layer
        self.groups, self.per_group, self.head_dim = (
            config.num_attention_groups,
            config.heads_per_group,
            config.head_dim,
        )
        kv_size = config.num_attention_groups * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        """Map x [batch, tokens, hidden] to the same shape."""
        batch, tokens, _ = x.shape
        slots = slice(step.first_slot, step.first_slot + batch)
        keys, values = step.cache.keys[self.layer, slots], step.cache.values[self.layer, slots]
        rows = torch.arange(batch, device=x.device)[:, None]
        keys[rows, :, step.write] = self.k_proj(x).view(batch, tokens, self.groups, self.head_dim)
        values[rows, :, step.write] = self.v_proj(x).view(batch, tokens, self.groups, self.head_dim)

        # The heads of a group become further queries of its one key head, so keys are read once and never repeated.
        q = self.q_proj(x).view(batch, tokens, self.groups, self.per_group, self.head_dim)
        q = q.permute(0, 2, 3, 1, 4).reshape(batch, self.groups, self.per_group * tokens, self.head_dim)
        length = step.bias.shape[-1]
        y = F.scaled_dot_product_attention(q, keys[:, :, :length], values[:, :, :length], attn_mask=step.bias)
        y = y.view(batch, self.groups, self.per_group, tokens, self.head_dim).permute(0, 3, 1, 2, 4)
        out: torch.Tensor = self.o_proj(y.reshape(batch, tokens, -1))
        return out


class MLP(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, config: Step1Config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., hidden] to the same shape."""
        out: torch.Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    """Attention and MLP, each after a norm and added to its input."""

    def __init__(self, config: Step1Config, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        """Map [batch, tokens, hidden] to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), step)
        out: torch.Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, config: Step1Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: torch.Tensor, step: Step) -> torch.Tensor:
        """Map ids [batch, tokens] to hidden states [batch, tokens, hidden]."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, step)
        out: torch.Tensor = self.norm(x)
        return out


class Step1(nn.Module):
    """The whole network; `forward` stops before the output head, of which a caller mostly needs few rows."""

    slope: torch.Tensor

    def __init__(self, config: Step1Config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("slope", self.slopes(config), persistent=False)

    @staticmethod
    def slopes(config: Step1Config) -> torch.Tensor:
        """Return the √-ALiBi slopes, float32 [groups, heads per group]."""
        return alibi.slopes(config.num_attention_heads).view(config.num_attention_groups, config.heads_per_group)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, activations and cache."""
        return self.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, cache: SlotCache, first_slot: int, length: int
    ) -> torch.Tensor:
        """Run tokens of consecutive slots, reading and extending their cache.

        Args:
            ids: int64 [batch, tokens]; row b belongs to slot `first_slot + b`.
            positions: int64 [batch, tokens], absolute; negative in rows that hold no request, whose result is void.
            cache: holds what comes before `positions`.
            length: keys to read; above every position, at most the cache's capacity.

        Returns:
            Normalised hidden states [batch, tokens, hidden]; `lm_head` of them are the logits.
        """
        write = torch.where(positions < 0, cache.unused_position, positions)
        bias = alibi.bias(self.slope, positions.clamp(min=0), length, self.dtype)
        hidden: torch.Tensor = self.model(ids, Step(cache, first_slot, write, bias))
        return hidden


def parameter_shapes(config: Step1Config) -> dict[str, tuple[int, ...]]:
    """Return the released state dict's keys and shapes for `config`, without making any weight."""
    with torch.device("meta"):
        model = Step1(config)
    return {name: tuple(value.shape) for name, value in model.named_parameters()}
