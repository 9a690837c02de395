"""The cache that settings describe."""

from pathlib import Path

from python_backend.voice.cache.disk import DiskStore
from python_backend.voice.cache.key import fingerprint
from python_backend.voice.cache.memory import MemoryStore
from python_backend.voice.cache.settings import CacheSettings
from python_backend.voice.cache.store import Store, StoreFailed, Tolerated
from python_backend.voice.cache.voice_cache import Encode, Say, VoiceCache


def open_cache(settings: CacheSettings, repository: Path, encode: Encode, say: Say) -> VoiceCache:
    """Return the cache: memory, then disk, then Redis. Without a usable folder it does without that one, and says so.

    Args:
        repository: the model repository, whose networks `encode` uses.
        say: takes lines of log.

    Raises:
        ValueError: the address of Redis is none, or the package `redis` is not installed.
    """
    if settings.cache == "off":
        say("[FunASR Cache] off")
        return VoiceCache(encode, [], "", 0, say)
    stores: list[Store] = [MemoryStore(settings.cache_memory_bytes, settings.cache_entries)]
    places = ["memory"]
    try:
        folder = settings.folder
        stores.append(Tolerated(DiskStore(folder, settings.cache_entries)))
        places.append(str(folder))
    except (StoreFailed, RuntimeError) as error:
        say(f"[FunASR Cache] nothing will outlive this process: {error}")
    if settings.cache_redis_url:
        stores.append(Tolerated(_shared(settings.cache_redis_url)))
        places.append("Redis")
    say(f"[FunASR Cache] on: up to {settings.cache_entries} voices in {', '.join(places)}")
    return VoiceCache(encode, stores, fingerprint(repository), settings.cache_entries, say)


def _shared(url: str) -> Store:
    try:
        from python_backend.voice.cache.shared import SharedStore  # an extra that few need
    except ModuleNotFoundError as error:
        raise ValueError("cache_redis_url: needs the Python package redis, the project's extra `redis`") from error
    try:
        return SharedStore(url)
    except ValueError as error:
        raise ValueError(f"cache_redis_url: {error}") from error
