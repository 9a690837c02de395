"""The language model: Step1 learns to continue the released prompts with the tokens of true speech."""

import collections
import functools
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from export.demo.llm import EOT, random_weights
from export.demo.text_tokenizer import write_text_tokenizer
from python_backend.llm import alibi
from python_backend.llm.config import Step1Config
from python_backend.llm.grammar import VQ02_CODES
from python_backend.llm.step1 import Step1
from python_backend.llm.tokenizer import Tokenizer
from training.corpus import mandarin
from training.loop import Schedule, train
from training.pairs import Pairs
from training.tasks import Task, Tasks

PUNCTUATION = "，。？！、：；“”（）…"
AUDIO_TOKENS = 5120
SIZES = {
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_attention_groups": 3,
    "num_hidden_layers": 6,
}
SCHEDULE = Schedule(steps=14_000, rate=2e-3, warmup=500, weight_decay=0.05)
BATCH, GROUP_STEPS = 16, 8
TOKENIZER = "tokenizer.model"
WORDS, OFTEN = 800, 5  # the most words with a piece of their own, and how often they must come
LONGEST = 780  # ids of prompt and answer
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


def write_tokenizer(path: Path, texts: Iterable[str]) -> int:
    """Write `tokenizer.model`: the prompts' own words, letters and characters, and the frequent words of `texts`.

    A word that is one piece needs no spelling, which a network that is told no positions learns slowly; the rest is
    spelt, so that any word can be said. Returns the number of pieces.
    """
    counts = collections.Counter(word for text in texts for word in re.findall("[A-Za-z]+", text))
    frequent = [word for word, count in counts.most_common(WORDS) if count >= OFTEN and len(word) > 1]
    english = " ".join(word for word in frequent for _ in range(counts[word]))
    return write_text_tokenizer(path, english, "".join(mandarin.characters()) + PUNCTUATION, AUDIO_TOKENS)


def config(vocab_size: int) -> Step1Config:
    """Return the sizes of the demo's language model."""
    return Step1Config(**SIZES, max_seq_len=32768, vocab_size=vocab_size, rms_norm_eps=1e-5, eos_token_id=EOT)


def build(vocab_size: int, device: torch.device) -> Step1:
    """Make the network before training."""
    sizes = config(vocab_size)
    network = Step1(sizes)
    with torch.device("cpu"):  # where the generator of their seed is
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


def run(pairs: Pairs, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train the model; leaves `tokenizer.model` and `llm.pt` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = write_tokenizer(folder / TOKENIZER, (clip.text for clip in pairs.corpus.training()))
    network = build(vocab_size, device)
    batches = Batches(Tasks(pairs, Tokenizer(folder / TOKENIZER)))
    loss = SpeechLoss(network, batches.tasks.tokenizer, device)
    train(network, batches.draw, lambda batch, _step: loss(batch), SCHEDULE.scaled(effort), folder, "llm", device)
    torch.save(network.state_dict(), folder / "llm.pt")


class Batches:
    """Draws tasks for several steps at once and shares them out by length, so that little of a batch is padding."""

    def __init__(self, tasks: Tasks):
        self.tasks = tasks
        self._lock = threading.Lock()
        self._group = functools.lru_cache(maxsize=2)(self._drawn)

    def draw(self, step: int) -> Batch:
        """Return the batch of a step, on the CPU."""
        number, place = divmod(step, GROUP_STEPS)
        with self._lock:
            sequences, order = self._group(number)
        first = BATCH * int(order[place])
        return self._batch(sequences[first : first + BATCH])

    def _drawn(self, number: int) -> tuple[list[Task], NDArray[np.int64]]:
        generator = np.random.default_rng(number)
        sequences: list[Task] = []
        while len(sequences) < GROUP_STEPS * BATCH:
            prompt, answer = self.tasks.draw(generator)
            if len(prompt) + len(answer) < LONGEST:
                sequences.append((prompt, [*answer, self.tasks.tokenizer.eot]))
        sequences.sort(key=lambda task: len(task[0]) + len(task[1]))
        return sequences, generator.permutation(GROUP_STEPS)

    def _batch(self, sequences: list[Task]) -> Batch:
        size = max(len(prompt) + len(answer) for prompt, answer in sequences)
        ids = torch.zeros(len(sequences), size, dtype=torch.long)
        weights = torch.zeros(len(sequences), size - 1)
        first_audio = self.tasks.tokenizer.audio_offset
        for row, (prompt, answer) in enumerate(sequences):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer])
            weights[row, : len(prompt) - 1] = PROMPT_WEIGHT * (ids[row, 1 : len(prompt)] >= first_audio)
            weights[row, len(prompt) - 1 : end - 1] = 1.0
        return Batch(ids, weights)


class SpeechLoss:
    """The weighted mean of the next ids' negative log-likelihood, each among those the grammar of speech allows there.

    The engine samples under the same grammar, so the network need not learn what it will never be asked.
    """

    def __init__(self, network: Step1, tokenizer: Tokenizer, device: torch.device):
        self._network, self._device = network, device
        first, last = tokenizer.audio_offset, tokenizer.audio_offset + VQ02_CODES
        self._stop, self._first, self._last = tokenizer.eot, first, last

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch."""
        network = self._network
        ids, weights = batch.ids.to(self._device), batch.weights.to(self._device)
        hidden = network(ids[:, :-1], CausalAttention(network.slope, ids.shape[1] - 1, torch.float32))
        wanted, head = ids[:, 1:], network.lm_head.weight
        is_semantic = wanted >= self._last
        linguistic = torch.cat([head[self._stop : self._stop + 1], head[self._first : self._last]])
        place = torch.where(wanted == self._stop, 0, wanted - self._first + 1)
        total = torch.zeros((), device=self._device)
        for chosen, rows, labels in (
            ((weights > 0) & ~is_semantic, linguistic, place),
            ((weights > 0) & is_semantic, head[self._last :], wanted - self._last),
        ):
            each = F.cross_entropy(F.linear(hidden[chosen], rows).float(), labels[chosen], reduction="none")
            total = total + (each * weights[chosen]).sum()
        return {"token": total / weights.sum()}
