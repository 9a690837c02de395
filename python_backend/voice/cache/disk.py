"""Voices on disk: a safetensors file each, and an index of their order."""

import contextlib
import fcntl
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from python_backend.voice.cache.entry import Damaged, Entry
from python_backend.voice.cache.index import Index
from python_backend.voice.cache.store import StoreFailed

log = logging.getLogger(__name__)

ABANDONED_SECONDS = 600.0
_SUFFIX = ".safetensors"
_NEW = "new"


class DiskStore:
    """Keeps the voices used last under one folder, which several processes may share.

    A file is written beside its place and moved there whole; files are moved in and removed only by the process that
    holds the index's write lock. A process that is killed leaves at most a file without a row or a row without a file;
    the next one to open the folder, or to ask for that voice, puts it right. Files carry their own checksum, so nothing
    is forced to the disk: what a power failure tears is found and dropped.

    Args:
        folder: made when it is not there, for this user alone; an existing one keeps its rights. Not on a network file
            system: the index needs locks.
        capacity: voices at most.

    Raises:
        StoreFailed: the folder cannot be used.
    """

    name = "disk"

    def __init__(self, folder: Path, capacity: int):
        self._folder = folder
        self._capacity = capacity
        self._damaged = 0
        with _explained():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / _NEW).mkdir(mode=0o700, exist_ok=True)
            with (folder / "lock").open("w") as lock:  # two processes must not replace a damaged index at once
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._index = Index(folder / "index.sqlite3")
            self._tidy()

    def get(self, key: str) -> Entry | None:
        """See `Store`."""
        with _explained():
            try:
                data = self._path(key).read_bytes()
            except FileNotFoundError:
                return None
            try:
                entry = Entry.from_bytes(key, data)
            except Damaged as error:
                log.warning("voice cache: dropped a damaged file, %s: %s", self._path(key).name, error)
                self._damaged += 1
                with self._index.alone():
                    self._remove(key)
                return None
            self._index.touch(key)
            return entry

    def put(self, key: str, entry: Entry) -> None:
        """See `Store`."""
        data = entry.to_bytes(key)
        with _explained(), self._written(data) as written, self._index.alone():
            path = self._path(key)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            written.replace(path)
            self._index.add(key, len(data))
            self._evict()

    def touch(self, key: str) -> None:
        """See `Store`."""
        with _explained():
            self._index.touch(key)

    def clear(self) -> None:
        """See `Store`."""
        with _explained(), self._index.alone():
            for key in {*self._index.oldest_first(), *self._files()}:
                self._remove(key)
            for folder in self._folder.glob("[0-9a-f][0-9a-f]"):
                folder.rmdir()

    def stats(self) -> dict[str, int]:
        """See `Store`."""
        with _explained():
            entries, size = self._index.totals()
        return {"entries": entries, "bytes": size, "damaged": self._damaged}

    def close(self) -> None:
        """See `Store`."""
        self._index.close()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{_SUFFIX}"

    def _files(self) -> dict[str, Path]:
        return {path.name.removesuffix(_SUFFIX): path for path in self._folder.glob(f"[0-9a-f][0-9a-f]/*{_SUFFIX}")}

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """Write a file of no name yet; it is gone afterwards, wherever it went."""
        handle, name = tempfile.mkstemp(dir=self._folder / _NEW)
        written = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            yield written
        finally:
            written.unlink(missing_ok=True)

    def _remove(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
        self._index.remove(key)

    def _evict(self) -> None:
        for key in self._index.beyond(self._capacity):
            self._remove(key)

    def _tidy(self) -> None:
        """Make files and rows agree, after processes that were killed and settings that have changed."""
        with self._index.alone():
            files = self._files()
            for key in set(self._index.oldest_first()) - files.keys():
                self._index.remove(key)
            for key, path in files.items():
                self._index.adopt(key, path.stat().st_size)
            self._evict()
        for path in (self._folder / _NEW).iterdir():
            with contextlib.suppress(FileNotFoundError):  # its writer has just moved it
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreFailed(f"the voice cache's folder cannot be used: {type(error).__name__}: {error}") from error
