"""Which voices lie on disk and in which order they were used: one SQLite table that several processes share."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

BUSY_SECONDS = 10.0
_TABLE = """
CREATE TABLE IF NOT EXISTS voices (key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON voices (used);
"""
_NEXT = "(SELECT coalesce(max(used), 0) + 1 FROM voices)"


class Index:
    """Rows of key, bytes and a count that grows with every use: clocks may be set back, this cannot.

    Every method raises `sqlite3.Error` when the file cannot be used.

    Args:
        path: the SQLite file; one that is damaged is replaced by an empty one.
    """

    def __init__(self, path: Path):
        self._lock = threading.RLock()
        try:
            self._database = _open(path)
        except sqlite3.OperationalError:
            raise  # locked, read-only or no file at all: nothing a new file would mend
        except sqlite3.DatabaseError:
            for part in ("", "-wal", "-shm"):
                path.with_name(path.name + part).unlink(missing_ok=True)
            self._database = _open(path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the write lock: no other thread or process changes rows, or files that belong to them, meanwhile."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def add(self, key: str, size: int) -> None:
        """Make `key` the one used last."""
        statement = (
            f"INSERT INTO voices VALUES (?, ?, {_NEXT}) "  # noqa: S608 - a constant
            "ON CONFLICT (key) DO UPDATE SET bytes = excluded.bytes, used = excluded.used"
        )
        self._run(statement, key, size)

    def adopt(self, key: str, size: int) -> None:
        """Add a file found without a row, as the one used longest ago."""
        self._run("INSERT OR IGNORE INTO voices VALUES (?, ?, 0)", key, size)

    def touch(self, key: str) -> None:
        """Make `key` the one used last, if it is there."""
        self._run(f"UPDATE voices SET used = {_NEXT} WHERE key = ?", key)  # noqa: S608 - a constant

    def remove(self, key: str) -> None:
        """Forget `key`."""
        self._run("DELETE FROM voices WHERE key = ?", key)

    def oldest_first(self) -> list[str]:
        """Return all keys."""
        return [row[0] for row in self._run("SELECT key FROM voices ORDER BY used, key")]

    def beyond(self, capacity: int) -> list[str]:
        """Return the keys used longest ago that are more than `capacity`."""
        return [
            row[0]
            for row in self._run(
                "SELECT key FROM voices ORDER BY used, key LIMIT max(0, (SELECT count(*) FROM voices) - ?)", capacity
            )
        ]

    def totals(self) -> tuple[int, int]:
        """Return how many there are and their bytes."""
        entries, size = self._run("SELECT count(*), coalesce(sum(bytes), 0) FROM voices")[0]
        return entries, size

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _run(self, statement: str, *values: str | int) -> list[tuple[Any, ...]]:
        with self._lock, closing(self._database.execute(statement, values)) as cursor:
            return cursor.fetchall()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # Readers do not wait for writers, and a process killed at any moment leaves a table that is whole.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_TABLE)
    except sqlite3.Error:
        database.close()
        raise
    return database
