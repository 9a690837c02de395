"""Lookups through several stores, with an encoder that counts."""

import threading
import time

import numpy as np
import pytest

from python_backend.errors import InvalidInput, NotFound
from python_backend.voice.cache.disk import DiskStore
from python_backend.voice.cache.memory import MemoryStore
from python_backend.voice.cache.store import StoreFailed, Tolerated
from python_backend.voice.cache.voice_cache import VoiceCache
from tests.voice.cache.entries import assert_same, key_of, voice_of

RATE = 16_000


def clip(number):
    return np.full(1000, number / 100, np.float32)


class Encoder:
    def __init__(self, seconds=0.0):
        self.seconds, self.calls = seconds, []

    def __call__(self, audio, sample_rate, dither):
        self.calls.append((sample_rate, dither))
        time.sleep(self.seconds)
        if not audio.any():
            raise InvalidInput("audio", "is silent")
        return voice_of(round(float(audio[0]) * 100))


class Broken:
    """A store that always fails."""

    name = "broken"

    def __init__(self):
        self.asked = 0

    def _fail(self, *_):
        self.asked += 1
        raise StoreFailed("gone")

    get = put = touch = clear = stats = _fail

    def close(self):
        pass


@pytest.fixture
def make(tmp_path):
    caches = []

    def run(encoder, *stores, say=lambda _: None):
        if not stores:
            stores = (MemoryStore(1_000_000, 1000), DiskStore(tmp_path, 1000))
        caches.append(VoiceCache(encoder, stores, "networks", 1000, say))
        return caches[-1]

    yield run
    for cache in caches:
        cache.close()


def test_a_clip_is_encoded_once_and_a_key_stands_for_it(make):
    encoder = Encoder()
    cache = make(encoder)
    first, second = cache.encode(clip(1), RATE), cache.encode(clip(1), RATE)
    by_key = cache.recall(first.key)
    assert [first.hit, second.hit, by_key.hit] == [False, True, True]
    assert len({first.key, second.key, by_key.key}) == 1
    assert len(encoder.calls) == 1
    for answer in (first, second, by_key):
        assert_same(answer.voice, voice_of(1))
    np.testing.assert_array_equal(first.voice.stage_ms, [1, 2, 3, 4])
    assert second.voice.stage_ms[0] > 0
    assert not second.voice.stage_ms[1:].any()


def test_rate_dither_and_sound_make_another_voice(make):
    encoder = Encoder()
    cache = make(encoder)
    for audio, rate, dither in ((1, RATE, 1.0), (2, RATE, 1.0), (1, 24_000, 1.0), (1, RATE, 0.0)):
        assert not cache.encode(clip(audio), rate, dither).hit
    assert encoder.calls == [(RATE, 1.0), (RATE, 1.0), (24_000, 1.0), (RATE, 0.0)]


def test_a_restart_keeps_voices_and_fills_memory_from_the_disk(make, tmp_path):
    key = make(Encoder()).encode(clip(1), RATE).key
    encoder = Encoder()
    memory, disk = MemoryStore(1_000_000, 1000), DiskStore(tmp_path, 1000)
    cache = make(encoder, memory, disk)
    assert cache.encode(clip(1), RATE).hit
    assert not encoder.calls
    assert_same(memory.get(key), voice_of(1))
    stats = cache.stats()
    assert (stats["hits"], stats["misses"], stats["cache_size"]) == (1, 0, 1)


def test_hits_in_memory_keep_a_voice_on_the_disk(make, tmp_path):
    cache = make(Encoder(), MemoryStore(1_000_000, 1000), DiskStore(tmp_path, 2))
    for number in (1, 2, 1, 3):  # 2 is the one used longest ago when 3 comes
        cache.encode(clip(number), RATE)
    again = make(Encoder(), DiskStore(tmp_path, 2))
    assert [again.encode(clip(number), RATE).hit for number in (1, 3, 2)] == [True, True, False]


def test_misses_at_the_same_time_share_one_computation(make):
    encoder = Encoder(seconds=0.2)
    cache = make(encoder)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(cache.encode(clip(1), RATE))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encoder.calls) == 1
    assert len(answers) == 8
    assert not any(answer.hit for answer in answers)
    assert (cache.stats()["misses"], cache.stats()["shared"]) == (8, 7)


def test_other_clips_do_not_wait(make):
    encoder = Encoder(seconds=0.3)
    cache = make(encoder)
    threads = [threading.Thread(target=cache.encode, args=(clip(number), RATE)) for number in (1, 2, 3)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 0.8


def test_a_refused_clip_is_refused_every_time_and_never_kept(make):
    encoder = Encoder()
    cache = make(encoder)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="silent"):
            cache.encode(clip(0), RATE)
    assert len(encoder.calls) == 2
    assert cache.stats()["cache_size"] == 0


def test_a_key_nobody_knows_is_not_found_and_counts_for_nothing(make):
    cache = make(Encoder())
    with pytest.raises(NotFound, match=r"^voice_key: .*send its clip"):
        cache.recall(key_of(9))
    with pytest.raises(InvalidInput, match="voice_key"):
        cache.recall("../../etc/passwd")
    assert cache.stats()["total_requests"] == 0


def test_without_stores_every_clip_is_encoded(make):
    encoder = Encoder()
    cache = VoiceCache(encoder, [], "", 0, lambda _: None)
    assert [cache.encode(clip(1), RATE).key for _ in range(2)] == ["", ""]
    assert len(encoder.calls) == 2
    assert cache.stats()["enabled"] is False
    with pytest.raises(NotFound):
        cache.recall(key_of(1))


def test_a_clip_can_be_encoded_past_the_cache(make):
    encoder = Encoder()
    cache = make(encoder)
    cache.encode(clip(1), RATE)
    anew = cache.encode_anew(clip(1), RATE)
    assert (anew.hit, anew.key, len(encoder.calls)) == (False, "", 2)
    assert cache.stats()["total_requests"] == 1


def test_statistics_and_lines_are_those_of_the_contract(make):
    lines = []
    cache = make(Encoder(seconds=0.05), say=lines.append)
    for number in (1, 1, 1):
        cache.encode(clip(number), RATE)
    stats = cache.stats()
    assert {name: stats[name] for name in list(stats)[:7]} == {
        "enabled": True,
        "hits": 2,
        "misses": 1,
        "total_requests": 3,
        "hit_rate": "66.7%",
        "cache_size": 1,
        "max_size": 1000,
    }
    assert stats["time_saved_estimate"] == "0.1s"
    md5 = voice_of(1).clip_md5[:8]
    assert lines[0] == f"[FunASR Cache MISS] hash={md5}..."
    assert lines[1].startswith("[FunASR Encoding] time=0.0")
    assert lines[2].startswith(f"[FunASR Cache HIT] hash={md5}... (saved ~0.0")


def test_clear_forgets_everything_and_reset_only_the_counts(make):
    encoder = Encoder()
    cache = make(encoder)
    key = cache.encode(clip(1), RATE).key
    cache.reset()
    assert (cache.stats()["total_requests"], cache.stats()["cache_size"]) == (0, 1)
    assert cache.recall(key).hit
    cache.clear()
    assert (cache.stats()["hits"], cache.stats()["cache_size"]) == (0, 0)
    with pytest.raises(NotFound):
        cache.recall(key)
    assert not cache.encode(clip(1), RATE).hit


def test_a_store_that_fails_costs_nothing_but_its_hits(make, caplog):
    broken = Broken()
    cache = make(Encoder(), MemoryStore(1_000_000, 10), Tolerated(broken, pause=60))
    assert not cache.encode(clip(1), RATE).hit
    assert cache.encode(clip(1), RATE).hit
    assert not cache.encode(clip(2), RATE).hit
    assert broken.asked == 1, "it is left alone for a while"
    assert "broken is left alone" in caplog.text
    assert cache.stats()["stores"]["broken"] == {"failures": 1}
    with pytest.raises(StoreFailed):
        cache.clear()


def test_a_store_that_recovers_is_asked_again(make):
    broken = Broken()
    tolerated = Tolerated(broken, pause=0.05)
    assert tolerated.get(key_of(1)) is None
    time.sleep(0.1)
    tolerated.touch(key_of(1))
    assert broken.asked == 2
