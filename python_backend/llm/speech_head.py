"""The output head where the grammar holds: only audio tokens and the stop can come next, so only they are computed."""

import torch

from python_backend.llm import grammar, packing, sampling
from python_backend.llm.step1 import Step1


class SpeechHead:
    """The head's rows for audio tokens and the stop, and the choice among them.

    Args:
        offset: id of audio token 0.
        stop: id that ends a generation.
    """

    def __init__(self, model: Step1, offset: int, stop: int):
        self._offset = offset
        self._stop = stop
        head = model.lm_head.weight
        audio = head[offset : offset + grammar.AUDIO_TOKENS]
        self._linear = packing.linear(torch.cat([audio, head[stop : stop + 1]]))
        self._allowed = grammar.allowed_table().to(model.device)

    def logits(self, hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return float32 [rows, grammar.COLUMNS], -inf where the grammar forbids.

        Args:
            hidden: [rows, hidden].
            places: int64 [rows], see `grammar.row`.
        """
        logits: torch.Tensor = self._linear(hidden)
        return logits.float().masked_fill(~self._allowed[places], -torch.inf)

    def choose(self, logits: torch.Tensor, draws: torch.Tensor, ranked: bool) -> torch.Tensor:
        """Return one id per row, int64 [rows]; -1 where a row's logits are not numbers. See `sampling.sample`."""
        column = sampling.sample(logits, draws, ranked)
        ids = torch.where(column == grammar.STOP, self._stop, column + self._offset)
        return ids.masked_fill(column < 0, -1)
