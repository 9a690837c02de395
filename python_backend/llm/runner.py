"""One step of the network for the requests in the slots: prompt chunks, decode steps, the choice of the next ids."""

import torch

from python_backend.llm import grammar, sampling
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.sampling import Draw, Sampling
from python_backend.llm.sequence import Sequence
from python_backend.llm.step1 import Step1

# Masked keys add exact zeros, but only whole vectors of them leave the order of the other sums as it is.
KEY_MULTIPLE = 64
_NOBODY = Draw(Sampling(temperature=0.0), 0.0)


class Runner:
    """Owns the network, the cache and the output heads.

    Args:
        context: positions of one request, prompt and answer.
        audio_offset: id of audio token 0, None for a model without audio tokens.
        stop: id that ends a generation.
        deterministic: always decode all slots, so that a request gets the same numbers whatever else runs: a matrix
            product rounds differently with its number of rows. Otherwise only the rows up to the last one in use.
    """

    def __init__(
        self,
        model: Step1,
        slots: int,
        context: int,
        audio_offset: int | None,
        stop: int,
        deterministic: bool = False,
    ):
        self.model = model
        self.cache = SlotCache(model.config, slots, _padded(context), model.dtype, model.device)
        self._deterministic = deterministic
        self._offset = audio_offset or 0
        self._stop = stop
        if audio_offset is not None:
            # The grammar lets nothing else come next, so the head needs these rows only.
            head = model.lm_head.weight
            audio = head[audio_offset : audio_offset + grammar.AUDIO_TOKENS]
            self._audio_head = torch.cat([audio, head[stop : stop + 1]])
            self._allowed = grammar.allowed_table().to(model.device)

    @torch.inference_mode()
    def prefill(self, slot: int, ids: tuple[int, ...], start: int) -> torch.Tensor:
        """Compute prompt ids at positions `start` … and return the last one's hidden state [1, hidden]."""
        end = start + len(ids)
        batch = torch.tensor([ids, tuple(range(start, end))], device=self.model.device)
        hidden: torch.Tensor = self.model(batch[:1], batch[1:], self.cache, slot, _padded(end))
        return hidden[:, -1]

    @torch.inference_mode()
    def clear(self, slot: int) -> None:
        """Forget what a failed request left: masked keys are multiplied by zero, which does not remove a NaN."""
        self.cache.keys[:, slot] = 0
        self.cache.values[:, slot] = 0

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> list[int]:
        """Extend every sequence by one id and return these ids; each sequence is in the slot of its own."""
        rows = self.cache.slots if self._deterministic else max(sequence.slot for sequence in sequences) + 1
        ids, positions = [0] * rows, [-1] * rows
        for sequence in sequences:
            ids[sequence.slot] = sequence.generated[-1]
            positions[sequence.slot] = sequence.position
        batch = torch.tensor([ids, positions], device=self.model.device)[:, :, None]
        hidden = self.model(batch[0], batch[1], self.cache, 0, _padded(max(positions) + 1))[:, -1]
        by_row: list[Sequence | None] = [None] * rows
        for sequence in sequences:
            by_row[sequence.slot] = sequence
        chosen = self.choose(hidden, by_row)
        return [chosen[sequence.slot] for sequence in sequences]

    @torch.inference_mode()
    def choose(self, hidden: torch.Tensor, rows: list[Sequence | None]) -> list[int]:
        """Choose the next id of each row of hidden states [rows, hidden].

        Rows without a sequence give any id; rows whose logits are not numbers give -1.
        """
        ids = torch.zeros(len(rows), dtype=torch.int64, device=hidden.device)
        constrained = [row is not None and row.generation.sampling.grammar for row in rows]
        if any(constrained):
            picked = sampling.sample(self._audio_logits(hidden, rows), self._draws(rows, constrained, self._offset))
            ids = torch.where(picked == grammar.STOP, self._stop, picked + self._offset).masked_fill(picked < 0, -1)
        free = [row is not None and not row.generation.sampling.grammar for row in rows]
        if any(free):
            picked = sampling.sample(self.model.lm_head(hidden), self._draws(rows, free, 0))
            ids = torch.where(torch.tensor(free, device=hidden.device), picked, ids)
        chosen: list[int] = ids.tolist()
        return chosen

    def _audio_logits(self, hidden: torch.Tensor, rows: list[Sequence | None]) -> torch.Tensor:
        allowed = [grammar.row(len(row.generated) if row else 0) for row in rows]
        logits = (hidden @ self._audio_head.T).float()
        return logits.masked_fill(~self._allowed[allowed], -torch.inf)

    @staticmethod
    def _draws(rows: list[Sequence | None], wanted: list[bool], first_column: int) -> list[Draw]:
        return [row.draw(first_column) if row and use else _NOBODY for row, use in zip(rows, wanted, strict=True)]


def _padded(length: int) -> int:
    return -(-length // KEY_MULTIPLE) * KEY_MULTIPLE
