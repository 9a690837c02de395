"""A real redis-server (Debian: `apt install redis-server`)."""

import numpy as np
import pytest
import redis

from python_backend.voice.cache.memory import MemoryStore
from python_backend.voice.cache.shared import PREFIX, SharedStore
from python_backend.voice.cache.store import StoreFailed, Tolerated
from python_backend.voice.cache.voice_cache import VoiceCache
from tests.voice.cache.entries import assert_same, entry_of, key_of, voice_of
from tests.voice.cache.redis_server import RedisServer


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def store(server):
    opened = SharedStore(server.url)
    yield opened
    opened.close()


def test_servers_share_a_voice(server):
    calls = []

    def encode(*_):
        calls.append(1)
        return voice_of(1)

    caches = [
        VoiceCache(encode, [MemoryStore(1_000_000, 10), Tolerated(SharedStore(server.url))], "n", 10, lambda _: None)
        for _ in range(2)
    ]
    audio = np.ones(1000, np.float32)
    first, second = (cache.encode(audio, 16_000) for cache in caches)
    assert (first.hit, second.hit) == (False, True)
    assert_same(second.voice, voice_of(1))
    assert caches[1].recall(first.key).hit
    assert len(calls) == 1
    for cache in caches:
        cache.close()


def test_entries_expire_and_others_keys_are_left_alone(store, server):
    client = redis.Redis.from_url(server.url)
    client.set("someone else's", b"x")
    store.put(key_of(1), entry_of(1))
    assert_same(store.get(key_of(1)), entry_of(1))
    assert client.ttl(PREFIX + key_of(1)) > 3600
    store.clear()
    assert store.get(key_of(1)) is None
    assert client.get("someone else's") == b"x"


def test_a_damaged_value_is_dropped(store, server):
    client = redis.Redis.from_url(server.url)
    store.put(key_of(1), entry_of(1))
    value = client.get(PREFIX + key_of(1))
    client.set(PREFIX + key_of(1), value[:-1] + bytes([value[-1] ^ 1]))
    assert store.get(key_of(1)) is None
    assert client.get(PREFIX + key_of(1)) is None
    assert store.stats() == {"damaged": 1}


def test_a_redis_that_went_away_fails_as_a_store_does_and_may_come_back(store, server):
    store.put(key_of(1), entry_of(1))
    server.stop()
    with pytest.raises(StoreFailed, match="does not answer"):
        store.get(key_of(1))
    server.start()
    store.put(key_of(2), entry_of(2))
    assert store.get(key_of(2)) is not None
