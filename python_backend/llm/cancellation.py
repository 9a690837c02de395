"""Cancellations that overtake the request they are meant for."""

import time
from collections.abc import Callable

KEPT_SECONDS = 60.0


class EarlyCancellations:
    """Remembers for a minute the ids that were cancelled before their request came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._until: dict[str, float] = {}

    def remember(self, cancel_id: str) -> None:
        """Keep `cancel_id`, and forget what is too old."""
        now = self._clock()
        self._until = {known: until for known, until in self._until.items() if until > now}
        self._until[cancel_id] = now + KEPT_SECONDS

    def take(self, cancel_id: str) -> bool:
        """Return whether `cancel_id` is remembered, and forget it."""
        return self._until.pop(cancel_id, 0.0) > self._clock()
