"""One step of the network for the requests in the slots: prompt chunks, decode steps, the choice of the next ids."""

import torch

from python_backend.llm import decoding, grammar, sampling
from python_backend.llm.attention import MaskedAttention
from python_backend.llm.decoding import Decoded, Decoder, EagerDecoder
from python_backend.llm.graphs import CudaCapture, GraphDecoder
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.sampling import Draw, Sampling
from python_backend.llm.sequence import Sequence
from python_backend.llm.speech_head import SpeechHead
from python_backend.llm.step1 import Step1

_NOBODY = Draw(Sampling(temperature=0.0), 0.0)


class Runner:
    """Owns the network, the cache and the output heads.

    Args:
        context: positions of one request, prompt and answer.
        audio_offset: id of audio token 0, None for a model without audio tokens.
        stop: id that ends a generation.
        deterministic: a request gets the same numbers whatever else runs: every step's products have as many rows as
            there are slots. Otherwise only those up to the last slot in use.
        graphs: decode by CUDA graphs, on a GPU.
    """

    def __init__(
        self,
        model: Step1,
        slots: int,
        context: int,
        audio_offset: int | None,
        stop: int,
        deterministic: bool = False,
        graphs: bool = False,
    ):
        self.model = model
        self.cache = SlotCache(model.config, slots, decoding.padded(context), model.dtype, model.device)
        self._offset = audio_offset or 0
        self._head = None if audio_offset is None else SpeechHead(model, audio_offset, stop)
        self._decoder: Decoder
        if graphs:
            self._decoder = GraphDecoder(model, self._head, self.cache, deterministic, CudaCapture())
        else:
            self._decoder = EagerDecoder(model, self._head, self.cache, deterministic)

    @torch.inference_mode()
    def prefill(self, slot: int, ids: tuple[int, ...], start: int) -> torch.Tensor:
        """Compute prompt ids at positions `start` … and return the last one's hidden state [1, hidden]."""
        end = start + len(ids)
        batch = torch.tensor([ids, tuple(range(start, end))], device=self.model.device)
        attend = MaskedAttention(self.cache, self.model.slope, batch[1:], slot, 1, decoding.padded(end))
        hidden: torch.Tensor = self.model(batch[:1], attend)
        return hidden[:, -1]

    @torch.inference_mode()
    def first(self, hidden: torch.Tensor, sequence: Sequence) -> int:
        """Choose the id that follows a prompt whose last hidden state is `hidden` [1, hidden]."""
        table = self._table([sequence])
        return self._ids(decoding.finish(self._head, hidden, table.to(hidden.device)), table, [sequence])[0]

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> list[int]:
        """Extend every sequence by one id and return these ids; each sequence is in the slot of its own.

        The id is -1 where the logits are not numbers.
        """
        used = max(sequence.slot for sequence in sequences) + 1
        by_row: list[Sequence | None] = [None] * self._decoder.rows(used)
        for sequence in sequences:
            by_row[sequence.slot] = sequence
        table = self._table(by_row)
        decoded = self._decoder(table, used, max(sequence.position for sequence in sequences))
        ids = self._ids(decoded, table, by_row)
        return [ids[sequence.slot] for sequence in sequences]

    @torch.inference_mode()
    def clear(self, slot: int) -> None:
        """Forget what a failed request left: masked keys are multiplied by zero, which does not remove a NaN."""
        self.cache.keys[:, slot] = 0
        self.cache.values[:, slot] = 0

    def _table(self, rows: list[Sequence | None]) -> torch.Tensor:
        """Return the table of a step, see `Decoder`; from page-locked memory a GPU copies it without waiting."""
        state = [
            (row.generated[-1] if row.generated else 0, row.position, grammar.row(len(row.generated)))
            if row
            else (0, -1, 0)
            for row in rows
        ]
        draws = [row.draw(self._offset) if row and _is_bound(row) else _NOBODY for row in rows]
        table = torch.cat([torch.tensor(state, dtype=torch.float64).T, sampling.tabulate(draws)])
        return table.pin_memory() if self.model.device.type == "cuda" else table

    def _ids(self, decoded: Decoded, table: torch.Tensor, rows: list[Sequence | None]) -> list[int]:
        """Return the next ids; rows without a sequence give any. Moving them to the host is the step's only wait."""
        ids = decoded.ids
        if decoded.logits is not None and any(row and sampling.is_ranked(row.generation.sampling) for row in rows):
            assert self._head is not None  # noqa: S101 - it made the logits
            ids = self._head.choose(decoded.logits, table[3:].to(decoded.logits.device), ranked=True)
        free = [row is not None and not _is_bound(row) for row in rows]
        if any(free):
            draws = [row.draw(0) if row and use else _NOBODY for row, use in zip(rows, free, strict=True)]
            device = decoded.hidden.device
            picked = sampling.sample(self.model.lm_head(decoded.hidden), sampling.tabulate(draws).to(device))
            ids = picked if ids is None else torch.where(torch.tensor(free, device=device), picked, ids)
        return [] if ids is None else ids.tolist()


def _is_bound(sequence: Sequence) -> bool:
    return sequence.generation.sampling.grammar
