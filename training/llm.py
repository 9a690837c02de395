"""The language model: Step1 learns to continue the released prompts with the tokens of true speech."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from export.demo.llm import EOT, random_weights
from export.demo.text_tokenizer import write_text_tokenizer
from python_backend.llm import alibi
from python_backend.llm.config import Step1Config
from python_backend.llm.step1 import Step1
from python_backend.llm.tokenizer import Tokenizer
from training.corpus import mandarin
from training.loop import Schedule, train
from training.pairs import Pairs
from training.tasks import Tasks

PUNCTUATION = "，。？！、：；“”（）…"
AUDIO_TOKENS = 5120
SIZES = {
    "hidden_size": 224,
    "intermediate_size": 608,
    "num_attention_heads": 7,
    "num_attention_groups": 7,
    "num_hidden_layers": 5,
}
SCHEDULE = Schedule(steps=16_000, rate=2e-3, warmup=500, weight_decay=0.05)
BATCH = 20
LONGEST = 720  # ids of prompt and answer
PROMPT_WEIGHT = 0.1  # of the loss on the prompt's own audio tokens: what speech sounds like is learnt there as well


class CausalAttention:
    """Attention within whole sequences from their start, with the √-ALiBi bias; an `Attend` without a cache."""

    def __init__(self, slope: Tensor, size: int, dtype: torch.dtype):
        positions = torch.arange(size, device=slope.device)[None]
        groups, per_group = slope.shape
        bias = alibi.bias(slope, positions, size, dtype)
        self._bias = bias.reshape(1, groups * per_group, size, size)
        self._groups, self._per_group = groups, per_group

    def __call__(self, _layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend; shapes as in `Attend`."""
        queries = q.unflatten(-1, (self._groups * self._per_group, -1)).transpose(1, 2)
        keys, values = (
            x.unflatten(-1, (self._groups, -1)).transpose(1, 2).repeat_interleave(self._per_group, dim=1)
            for x in (k, v)
        )
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self._bias.to(queries.dtype))
        return y.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Batch:
    """Sequences side by side.

    Attributes:
        ids: int64 [B, T], padded with zeros.
        weights: float32 [B, T - 1], of the loss for predicting ids[:, 1:].
    """

    ids: Tensor
    weights: Tensor


def write_tokenizer(path: Path) -> int:
    """Write `tokenizer.model`: letters, frequent characters and the prompts' own words; return its size."""
    return write_text_tokenizer(path, "", "".join(mandarin.characters()) + PUNCTUATION, AUDIO_TOKENS)


def config(vocab_size: int) -> Step1Config:
    """Return the sizes of the demo's language model."""
    return Step1Config(**SIZES, max_seq_len=32768, vocab_size=vocab_size, rms_norm_eps=1e-5, eos_token_id=EOT)


def build(vocab_size: int, device: torch.device) -> Step1:
    """Make the network before training."""
    sizes = config(vocab_size)
    network = Step1(sizes)
    weights = random_weights(sizes, 0)
    for name, value in weights.items():
        if value.dim() == 1:
            value.fill_(1.0)
        elif name.startswith(("model.embed", "lm_head")):
            value.normal_(std=0.02 if name.startswith("lm_head") else 0.5)
        elif "o_proj" in name or "down_proj" in name:
            value /= (2 * sizes.num_hidden_layers) ** 0.5
    network.load_state_dict(weights)
    return network.to(device)


def run(pairs: Pairs, folder: Path, device: torch.device) -> None:
    """Train the model; leaves `tokenizer.model` and `llm.pt` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    network = build(write_tokenizer(folder / "tokenizer.model"), device)
    tasks = Tasks(pairs, Tokenizer(folder / "tokenizer.model"))

    def loss(step: int) -> dict[str, Tensor]:
        return losses(network, draw(tasks, np.random.default_rng(step)), device)

    train(network, loss, SCHEDULE, folder, "llm", device)
    torch.save(network.state_dict(), folder / "llm.pt")


def draw(tasks: Tasks, generator: np.random.Generator) -> Batch:
    """Make a batch of tasks."""
    sequences: list[tuple[Sequence[int], Sequence[int]]] = []
    while len(sequences) < BATCH:
        prompt, answer = tasks.draw(generator)
        if len(prompt) + len(answer) < LONGEST:
            sequences.append((prompt, [*answer, tasks.tokenizer.eot]))
    size = max(len(prompt) + len(answer) for prompt, answer in sequences)
    ids = torch.zeros(BATCH, size, dtype=torch.long)
    weights = torch.zeros(BATCH, size - 1)
    first_audio = tasks.tokenizer.audio_offset
    for row, (prompt, answer) in enumerate(sequences):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        weights[row, : len(prompt) - 1] = PROMPT_WEIGHT * (ids[row, 1 : len(prompt)] >= first_audio)
        weights[row, len(prompt) - 1 : end - 1] = 1.0
    return Batch(ids, weights)


def losses(network: Step1, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Return the weighted mean of the next ids' negative log-likelihood."""
    ids, weights = batch.ids[:, :-1].to(device), batch.weights.to(device)
    hidden = network(ids, CausalAttention(network.slope, ids.shape[1], torch.float32))
    counted = weights > 0
    logits = network.lm_head(hidden[counted])
    each = F.cross_entropy(logits.float(), batch.ids[:, 1:].to(device)[counted], reduction="none")
    return {"token": (each * weights[counted]).sum() / weights.sum()}
