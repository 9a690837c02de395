"""The Step1 decoder: RMSNorm, grouped-query attention with √-ALiBi, SwiGLU, no biases, an output head of its own.

Modules carry the names of the released state dict. `embed_tokens` and `lm_head` are separate tensors always: the
released `config.json` leaves `tie_word_embeddings` out, which some libraries read as "tied" and then speak noise.
"""

import torch
from torch import nn

from python_backend.llm import alibi, ops
from python_backend.llm.attention import Attend
from python_backend.llm.config import Step1Config


class RMSNorm(nn.Module):
    """Adds to the residual stream and normalises it, see `ops.add_rms_norm`."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps
        self.add_rms_norm = ops.add_rms_norm

    def forward(self, x: torch.Tensor, update: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x + update and its norm."""
        return self.add_rms_norm(x, update, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention over the slot cache.

    Attributes:
        qkv_proj: the three projections in one, where `packing` joined them.
    """

    def __init__(self, config: Step1Config, layer: int):
        super().__init__()
        self.layer = layer
        kv_size = config.num_attention_groups * config.head_dim
        self.sizes = [config.hidden_size, kv_size, kv_size]
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(config.hidden_size, size, bias=False) for size in self.sizes)
        self.o_proj: nn.Module = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.qkv_proj: nn.Module | None = None

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Map x [batch, tokens, hidden] to the same shape."""
        if self.qkv_proj is not None:
            q, k, v = self.qkv_proj(x).split(self.sizes, -1)
        else:
            q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        out: torch.Tensor = self.o_proj(attend(self.layer, q, k, v))
        return out


class MLP(nn.Module):
    """down(silu(gate(x)) · up(x)).

    Attributes:
        gate_up_proj: the two projections in one, where `packing` joined them.
    """

    def __init__(self, config: Step1Config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj: nn.Module = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.gate_up_proj: nn.Module | None = None
        self.silu_mul = ops.silu_mul

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., hidden] to the same shape."""
        if self.gate_up_proj is not None:
            gate, up = self.gate_up_proj(x).chunk(2, -1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        out: torch.Tensor = self.down_proj(self.silu_mul(gate, up))
        return out


class DecoderLayer(nn.Module):
    """Attention and MLP, each after a norm and added to the residual stream."""

    def __init__(self, config: Step1Config, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: torch.Tensor, update: torch.Tensor | None, attend: Attend
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the stream [batch, tokens, hidden] and what the layer before adds to it; return the same pair.

        The addition is left to the next norm, which reads the stream anyway.
        """
        x, normed = self.input_layernorm(x, update)
        x, normed = self.post_attention_layernorm(x, self.self_attn(normed, attend))
        return x, self.mlp(normed)


class Decoder(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, config: Step1Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Map ids [batch, tokens] to hidden states [batch, tokens, hidden]."""
        x, update = self.embed_tokens(ids), None
        for layer in self.layers:
            x, update = layer(x, update, attend)
        out: torch.Tensor = self.norm(x, update)[1]
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

    def forward(self, ids: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Run tokens ids [batch, tokens], which stand where `attend` says.

        Returns:
            Normalised hidden states [batch, tokens, hidden]; `lm_head` of them are the logits.
        """
        hidden: torch.Tensor = self.model(ids, attend)
        return hidden


def parameter_shapes(config: Step1Config) -> dict[str, tuple[int, ...]]:
    """Return the released state dict's keys and shapes for `config`, without making any weight."""
    with torch.device("meta"):
        model = Step1(config)
    return {name: tuple(value.shape) for name, value in model.named_parameters()}
