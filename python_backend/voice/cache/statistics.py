"""What the cache has done, for people and for machines."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """How requests fared since the start, or since the last reset.

    Attributes:
        hits: answered from the cache.
        misses: encoded, or waited for while another request encoded the same clip.
        shared: those of the misses that only waited.
        saved_seconds: what encoding took once for every hit, added up.
    """

    hits: int = 0
    misses: int = 0
    shared: int = 0
    saved_seconds: float = 0.0

    @property
    def hit_rate(self) -> str:
        """Share of hits, such as `66.7%`."""
        return f"{100.0 * self.hits / max(1, self.hits + self.misses):.1f}%"


class Statistics:
    """Counts that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()

    def hit(self, saved_seconds: float) -> None:
        """Count a hit."""
        with self._lock:
            old = self._counts
            self._counts = Counts(old.hits + 1, old.misses, old.shared, old.saved_seconds + saved_seconds)

    def miss(self, *, shared: bool) -> None:
        """Count a miss."""
        with self._lock:
            old = self._counts
            self._counts = Counts(old.hits, old.misses + 1, old.shared + shared, old.saved_seconds)

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self._counts = Counts()

    def counts(self) -> Counts:
        """Return the counts as they are now."""
        with self._lock:
            return self._counts
