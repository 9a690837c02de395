"""Finished calls of decoupled models, kept alive until Triton has let go of them."""

import threading
import time
from collections import deque
from typing import Any

KEPT_SECONDS = 2.0


class SpentCalls:
    """Holds the response iterators of finished calls for a while.

    When a stream has ended, Triton 2.51 drops its own reference from a thread that does not hold Python's lock. Were it
    the last one, the arrays in it would be freed beside running Python code and corrupt the heap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, Any]] = deque()  # when, response iterator

    def keep(self, pieces: Any) -> None:
        """Hold `pieces`."""
        with self._lock:
            self._kept.append((time.monotonic(), pieces))
        self.let_go()

    def let_go(self) -> None:
        """Let go of those held long enough."""
        oldest = time.monotonic() - KEPT_SECONDS
        with self._lock:
            while self._kept and self._kept[0][0] < oldest:
                self._kept.popleft()
