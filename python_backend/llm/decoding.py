"""One decode step as a function of tensors, and the plain way to run it; `graphs` has the other."""

from dataclasses import dataclass
from typing import Protocol

import torch

from python_backend.llm.attention import Attend, MaskedAttention
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.speech_head import SpeechHead
from python_backend.llm.step1 import Step1

# Masked keys add exact zeros, but only whole vectors of them leave the order of the other sums as it is.
KEY_MULTIPLE = 64


@dataclass(frozen=True)
class Decoded:
    """What a step gives, by row.

    Args:
        hidden: [rows, hidden].
        logits: float32 [rows, grammar.COLUMNS] under the grammar; None for a model without audio tokens.
        ids: int64 [rows], chosen from `logits` by the rules but top_k and top_p; None like `logits`.
    """

    hidden: torch.Tensor
    logits: torch.Tensor | None
    ids: torch.Tensor | None


class Decoder(Protocol):
    """Runs decode steps over slots 0 … n-1."""

    def rows(self, used: int) -> int:
        """Return how many rows a step takes that has requests in the first `used` slots."""
        ...

    def __call__(self, table: torch.Tensor, used: int, last: int) -> Decoded:
        """Take a step.

        Args:
            table: float64 [8, rows], on the host: id, position (-1 without a request), place (`grammar.row`), and the
                rows of `sampling.tabulate`.
            used: slots that may hold a request.
            last: the highest position.
        """
        ...


def step(model: Step1, head: SpeechHead | None, table: torch.Tensor, attend: Attend) -> Decoded:
    """Extend each slot by one token; `table` as in `Decoder`, on the model's device."""
    hidden = model(table[0].long()[:, None], attend)[:, 0]
    return finish(head, hidden, table)


def finish(head: SpeechHead | None, hidden: torch.Tensor, table: torch.Tensor) -> Decoded:
    """Choose ids after hidden states [rows, hidden]; `table` as in `Decoder`, on the model's device."""
    if head is None:
        return Decoded(hidden, None, None)
    logits = head.logits(hidden, table[2].long())
    return Decoded(hidden, logits, head.choose(logits, table[3:], ranked=False))


def padded(length: int) -> int:
    """Round a number of keys up to whole vectors."""
    return -(-length // KEY_MULTIPLE) * KEY_MULTIPLE


class EagerDecoder:
    """Calls the step directly, with shapes that follow the requests.

    Args:
        fixed_rows: always take all slots, because a product rounds differently with its number of rows.
    """

    def __init__(self, model: Step1, head: SpeechHead | None, cache: SlotCache, fixed_rows: bool):
        self._model = model
        self._head = head
        self._cache = cache
        self._fixed_rows = fixed_rows

    def rows(self, used: int) -> int:
        """See `Decoder`."""
        return self._cache.slots if self._fixed_rows else used

    def __call__(self, table: torch.Tensor, used: int, last: int) -> Decoded:
        """See `Decoder`."""
        table = table.to(self._model.device)
        attend = MaskedAttention(self._cache, self._model.slope, table[1].long()[:, None], 0, used, padded(last + 1))
        return step(self._model, self._head, table, attend)
