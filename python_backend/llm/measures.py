"""What the engine has done, counted as its events pass."""

from collections import Counter, deque

from python_backend.llm.request import Emit, Event, Failed, Finished, Tokens

KEPT = 10_000  # observations that wait to be reported


class Measures:
    """Plain counters, written by the engine's thread alone; a reporter may read them from another.

    Attributes:
        tokens: audio tokens handed out.
        ended: requests by how they ended: `stop`, `length` or `error`.
        first_token_seconds: from arrival to the first token, one value per request that was answered.
        token_seconds: mean time from one token to the next, one value per request that was answered.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.ended: Counter[str] = Counter()
        self.first_token_seconds: deque[float] = deque(maxlen=KEPT)
        self.token_seconds: deque[float] = deque(maxlen=KEPT)

    def watch(self, emit: Emit) -> Emit:
        """Return `emit` with counting in front."""

        def counted(event: Event) -> None:
            self._count(event)
            emit(event)

        return counted

    def _count(self, event: Event) -> None:
        if isinstance(event, Tokens):
            self.tokens += len(event.tokens)
        elif isinstance(event, Failed):
            self.ended["error"] += 1
        else:
            self._count_finished(event)

    def _count_finished(self, event: Finished) -> None:
        first, rest = (milliseconds / 1e3 for milliseconds in event.stage_ms)
        self.ended[event.reason] += 1
        self.first_token_seconds.append(first)
        if event.usage[1] > 1:
            self.token_seconds.append(rest / (event.usage[1] - 1))
