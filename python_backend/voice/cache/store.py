"""Where entries can be kept."""

import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from python_backend.errors import Unavailable
from python_backend.voice.cache.entry import Entry

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE_SECONDS = 10.0


class StoreFailed(Unavailable):
    """A store cannot be reached, read or written."""


class Store(Protocol):
    """Entries by key. Every method may be called from several threads, and may raise `StoreFailed`."""

    name: str

    def get(self, key: str) -> Entry | None:
        """Return the entry and count it as used, `None` where there is none. A damaged one is dropped."""
        ...

    def put(self, key: str, entry: Entry) -> None:
        """Keep the entry, in place of the ones used longest ago where room is short."""
        ...

    def touch(self, key: str) -> None:
        """Count the entry as used, if there is one."""
        ...

    def clear(self) -> None:
        """Drop every entry."""
        ...

    def stats(self) -> dict[str, int]:
        """Return `entries`, `bytes`, `damaged` (dropped so far) and the like."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class Tolerated:
    """A store whose failures cost a hit, never a request: after one it is left alone for a while.

    Only `clear` still fails: whoever asked must know that entries may be left.
    """

    def __init__(self, store: Store, pause: float = PAUSE_SECONDS):
        self.name = store.name
        self._store = store
        self._pause = pause
        self._resume_at = 0.0
        self._failures = 0

    def get(self, key: str) -> Entry | None:
        """See `Store`."""
        return self._attempt(lambda: self._store.get(key), None)

    def put(self, key: str, entry: Entry) -> None:
        """See `Store`."""
        self._attempt(lambda: self._store.put(key, entry), None)

    def touch(self, key: str) -> None:
        """See `Store`."""
        self._attempt(lambda: self._store.touch(key), None)

    def clear(self) -> None:
        """See `Store`."""
        self._store.clear()

    def stats(self) -> dict[str, int]:
        """See `Store`; counts `failures` too."""
        return {**self._attempt(self._store.stats, {}), "failures": self._failures}

    def close(self) -> None:
        """See `Store`."""
        self._store.close()

    def _attempt(self, work: Callable[[], T], otherwise: T) -> T:
        if time.monotonic() < self._resume_at:
            return otherwise
        try:
            return work()
        except StoreFailed as error:
            self._failures += 1
            self._resume_at = time.monotonic() + self._pause
            log.warning("voice cache: %s is left alone for %g s: %s", self.name, self._pause, error)
            return otherwise
