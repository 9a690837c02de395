"""Voices in a Redis that several servers share."""

import contextlib
import logging
from collections.abc import Iterator

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from python_backend.voice.cache.entry import Damaged, Entry
from python_backend.voice.cache.store import StoreFailed

log = logging.getLogger(__name__)

PREFIX = "step-audio-triton:voice:"
KEPT_SECONDS = 7 * 24 * 3600
"""An entry that no server fetched for so long is forgotten; Redis's own `maxmemory` bounds the bytes."""
TIMEOUT_SECONDS = 0.5
_AT_ONCE = 500


class SharedStore:
    """Keeps voices in Redis, with the same bytes as on disk. Whoever can write to that Redis is trusted.

    Args:
        url: `redis://[:password@]host:port/database`, `rediss://` for TLS, or `unix://path`.
    """

    name = "redis"

    def __init__(self, url: str):
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._damaged = 0

    def get(self, key: str) -> Entry | None:
        """See `Store`."""
        with _explained():
            data = self._redis.getex(PREFIX + key, ex=KEPT_SECONDS)
            if not isinstance(data, bytes):
                return None
            try:
                return Entry.from_bytes(key, data)
            except Damaged as error:
                log.warning("voice cache: dropped a damaged value in Redis: %s", error)
                self._damaged += 1
                self._redis.unlink(PREFIX + key)
                return None

    def put(self, key: str, entry: Entry) -> None:
        """See `Store`."""
        with _explained():
            self._redis.set(PREFIX + key, entry.to_bytes(key), ex=KEPT_SECONDS)

    def touch(self, key: str) -> None:
        """Do nothing: a hit in memory is not worth a message."""

    def clear(self) -> None:
        """Drop every entry, for all servers; each of them still has its own memory and disk."""
        with _explained():
            for key in self._redis.scan_iter(match=f"{PREFIX}*", count=_AT_ONCE):
                self._redis.unlink(key)

    def stats(self) -> dict[str, int]:
        """See `Store`; counting what all servers keep there would cost too much."""
        return {"damaged": self._damaged}

    def close(self) -> None:
        """See `Store`."""
        self._redis.close()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreFailed(f"the shared voice cache does not answer: {type(error).__name__}: {error}") from error
