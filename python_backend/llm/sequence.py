"""A request while the engine runs it."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import RequestError
from python_backend.llm import grammar, sampling
from python_backend.llm.request import Emit, Failed, Finished, Generation, Tokens
from python_backend.llm.sampling import Draw


@dataclass(eq=False)
class Sequence:
    """Progress of one generation and what it still owes its caller.

    Attributes:
        slot: its row of the cache while it runs.
        computed: prompt ids whose keys and values are in the cache.
        generated: ids so far, the stop included.
        cancelled: the engine drops the sequence at its next step.
        done: the last event has been emitted.
    """

    generation: Generation
    emit: Emit
    arrived: float = field(default_factory=time.perf_counter)
    slot: int = -1
    computed: int = 0
    generated: list[int] = field(default_factory=list)
    cancelled: bool = False
    done: bool = False
    _first_token: float = 0.0
    _emitted: int = 0
    _uniforms: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._uniforms = sampling.uniforms(self.generation.sampling.seed, self.generation.max_tokens)

    @property
    def deadline(self) -> float:
        """When the caller stops waiting, on the clock of `arrived`."""
        return self.arrived + self.generation.urgency.seconds

    @property
    def prefilled(self) -> bool:
        """Whether the whole prompt has been computed."""
        return self.computed == len(self.generation.prompt.ids)

    @property
    def position(self) -> int:
        """Where the latest generated id stands."""
        return len(self.generation.prompt.ids) + len(self.generated) - 1

    def cancel(self) -> None:
        """Give up; may be called from any thread."""
        self.cancelled = True

    def recent(self, count: int) -> list[int]:
        """Return the last `count` ids of prompt and answer."""
        generated = self.generated[-count:]
        missing = count - len(generated)
        return [*(self.generation.prompt.ids[-missing:] if missing else ()), *generated]

    def draw(self, first_column: int) -> Draw:
        """Return how to choose the next id from logits whose column 0 is id `first_column`."""
        rules = self.generation.sampling
        banned = sampling.repeated(self.recent(sampling.REPETITION_WINDOW)) if rules.repetition_aware else None
        column = None if banned is None else banned - first_column
        if column is not None and rules.grammar and not 0 <= column < grammar.AUDIO_TOKENS:
            column = None
        return Draw(rules, float(self._uniforms[len(self.generated)]), column)

    def accept(self, token: int) -> None:
        """Take the next id, hand on what is complete, and finish where it ends the answer.

        Raises:
            RequestError: the model's output is not a number; or, without the grammar, it left the pattern of speech or
                said nothing.
        """
        if token < 0:
            raise RequestError("the model's output is not a number")
        if not self.generated:
            self._first_token = time.perf_counter()
        self.generated.append(token)
        if token == self.generation.stop:
            self._end("stop", len(self.generated) - 1)
            return
        self._check_pattern(token)
        if len(self.generated) % grammar.GROUP == 0:
            self._emit_until(len(self.generated))
        if len(self.generated) == self.generation.max_tokens:
            self._end("length", len(self.generated))

    def fail(self, error: Exception) -> None:
        """Answer with an error."""
        if not self.done:
            self.done = True
            self.emit(Failed(error))

    def _check_pattern(self, token: int) -> None:
        offset, place = self.generation.audio_offset, len(self.generated) - 1
        if offset is not None and grammar.misplaced([token - offset], place) is not None:
            raise RequestError(f"the model left the pattern of speech: id {token} at {place}; try grammar = true")

    def _emit_until(self, end: int) -> None:
        if end > self._emitted:
            offset = self.generation.audio_offset or 0
            self.emit(Tokens([token - offset for token in self.generated[self._emitted : end]]))
            self._emitted = end

    def _end(self, reason: str, tokens: int) -> None:
        if self.generation.audio_offset is None:
            self._emit_until(tokens)
        elif tokens == 0 or tokens % grammar.GROUP:
            raise RequestError(f"the model stopped after {tokens} tokens, not after whole groups of five")
        now = time.perf_counter()
        stage_ms = ((self._first_token - self.arrived) * 1e3, (now - self._first_token) * 1e3)
        self.done = True
        self.emit(Finished(reason, (len(self.generation.prompt.ids), len(self.generated)), stage_ms))
