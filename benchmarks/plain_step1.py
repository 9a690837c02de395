"""The plain way to run Step1, as the modeling code published with re-hosted checkpoints does: the side to compare with.

One request at a time; keys and values are concatenated at every step and repeated for every head; each layer builds the
whole [heads, length, length] √-ALiBi bias anew and takes its last rows; the output head computes the whole vocabulary.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F

from python_backend.llm import alibi
from python_backend.llm.step1 import Attention, DecoderLayer, Step1


def full_bias(heads: int, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the bias of every query against every key, [heads, length, length]."""
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]
    bias = -alibi.slopes(heads)[:, None, None] * distance.clamp(min=0).float().sqrt()
    return bias.masked_fill(distance < 0, -torch.inf).to(dtype)


class PlainDecoder:
    """Runs the weights of `model` for one request."""

    def __init__(self, model: Step1):
        self._model = model
        self._config = model.config
        self._past: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _attention(self, layer: int, attention: Attention, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, hidden = x.shape
        k, v = attention.k_proj(x), attention.v_proj(x)
        if layer < len(self._past):
            k, v = torch.cat([self._past[layer][0], k], 1), torch.cat([self._past[layer][1], v], 1)
            self._past[layer] = (k, v)
        else:
            self._past.append((k, v))
        length, heads = k.shape[1], self._config.num_attention_heads

        def repeated(part: torch.Tensor) -> torch.Tensor:
            split = part.view(batch, length, -1, self._config.head_dim)
            return split.repeat_interleave(self._config.heads_per_group, 2).transpose(1, 2)

        bias = full_bias(heads, length, x.dtype)[:, -tokens:]
        q = attention.q_proj(x).view(batch, tokens, heads, self._config.head_dim).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, repeated(k), repeated(v), attn_mask=bias)
        out: torch.Tensor = attention.o_proj(y.transpose(1, 2).reshape(batch, tokens, hidden))
        return out

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Extend the request by `ids` and return the logits after the last one, [vocabulary]."""
        x = self._model.model.embed_tokens(torch.tensor([ids]))
        layers = cast(Iterable[DecoderLayer], self._model.model.layers)
        for index, layer in enumerate(layers):
            x = x + self._attention(index, layer.self_attn, layer.input_layernorm(x)[1])
            x = x + layer.mlp(layer.post_attention_layernorm(x)[1])
        out: torch.Tensor = self._model.lm_head(self._model.model.norm(x[:, -1:])[1])[0, 0]
        return out

    @torch.inference_mode()
    def generate(self, prompt: list[int], tokens: int, temperature: float) -> list[int]:
        """Return `tokens` ids sampled after `prompt`."""
        generated: list[int] = []
        logits = self.logits(prompt)
        while len(generated) < tokens:
            probabilities = torch.softmax(logits.float() / temperature, -1)
            generated.append(int(torch.multinomial(probabilities, 1)))
            logits = self.logits(generated[-1:])
        return generated
