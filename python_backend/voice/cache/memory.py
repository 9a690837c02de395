"""Voices in this process's memory."""

import threading
from collections import OrderedDict

from python_backend.voice.cache.entry import Entry


class MemoryStore:
    """Keeps the voices used last.

    Args:
        max_bytes: of all arrays.
        max_entries: voices at most.
    """

    name = "memory"

    def __init__(self, max_bytes: int, max_entries: int):
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Entry | None:
        """See `Store`."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """See `Store`. An entry larger than all the room is not kept."""
        with self._lock:
            self._drop(key)
            self._entries[key] = entry
            self._bytes += entry.nbytes
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._drop(next(iter(self._entries)))

    def touch(self, key: str) -> None:
        """See `Store`."""
        self.get(key)

    def clear(self) -> None:
        """See `Store`."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def stats(self) -> dict[str, int]:
        """See `Store`."""
        with self._lock:
            return {"entries": len(self._entries), "bytes": self._bytes}

    def close(self) -> None:
        """See `Store`."""
        self.clear()

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.nbytes
