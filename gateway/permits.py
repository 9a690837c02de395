"""How much work is taken on at once, and an honest answer to what is not."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import RateLimited

_SMOOTHING = 0.2


class Permits:
    """Bounds the requests worked on and those that wait for their turn, first come, first served.

    Args:
        concurrent: requests worked on at once.
        waiting: requests that may wait.
    """

    def __init__(self, concurrent: int, waiting: int):
        self._concurrent = concurrent
        self._max_waiting = waiting
        self._turns = asyncio.Semaphore(concurrent)
        self._typical_seconds = 1.0
        self.active = 0
        self.waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold one permit.

        Raises:
            RateLimited: too many wait already; states when to come back.
        """
        if self._turns.locked():
            if self.waiting >= self._max_waiting:
                raise RateLimited("too many requests are waiting", retry_after=self.expected_wait())
            self.waiting += 1
            try:
                await self._turns.acquire()
            finally:
                self.waiting -= 1
        else:
            await self._turns.acquire()
        started = time.perf_counter()
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._turns.release()
            self._typical_seconds += _SMOOTHING * (time.perf_counter() - started - self._typical_seconds)

    def expected_wait(self) -> int:
        """Return the whole seconds until all who wait now should have had their turn, from the times of recent work."""
        return max(1, math.ceil(self._typical_seconds * (self.waiting + 1) / self._concurrent))
