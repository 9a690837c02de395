"""Clips encoded once: looked up by content in every store, encoded when none has them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from python_backend.errors import NotFound
from python_backend.voice.cache.entry import Entry
from python_backend.voice.cache.flight import SingleFlight
from python_backend.voice.cache.key import checked_key, content_key
from python_backend.voice.cache.statistics import Statistics
from python_backend.voice.cache.store import Store
from python_backend.voice.clip import Waveform
from python_backend.voice.encoder import Voice

Encode = Callable[[Waveform, int, float], Voice]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """A voice and where it came from.

    Attributes:
        key: to ask for it again without its clip; empty when nothing is kept.
        hit: it was kept.
    """

    voice: Voice
    key: str
    hit: bool


class VoiceCache:
    """Answers clips and keys.

    Args:
        encode: what a miss costs: samples, rate and dither to a voice.
        stores: asked in this order; what a later one has, the earlier ones get. None at all: everything is encoded.
        networks: `key.fingerprint` of what `encode` uses.
        capacity: voices kept at most, for the statistics.
        say: takes one line of log per request.
    """

    def __init__(self, encode: Encode, stores: Sequence[Store], networks: str, capacity: int, say: Say):
        self._encode = encode
        self._stores = stores
        self._networks = networks
        self._capacity = capacity
        self._say = say
        self._flights: SingleFlight[_Found] = SingleFlight()
        self._statistics = Statistics()

    def encode(self, audio: Waveform, sample_rate: int, dither: float = 1.0) -> Answer:
        """Return the voice of a clip.

        Args:
            audio: float32 [N], contiguous.
            sample_rate: Hz.
            dither: see `VoiceEncoder.encode`.

        Raises:
            InvalidInput: the clip cannot be used.
        """
        started = time.perf_counter()
        if not self._stores:
            return self.encode_anew(audio, sample_rate, dither)
        key = content_key(audio, sample_rate, dither, self._networks)
        found, shared = self._once(key, lambda: self._encoded(key, audio, sample_rate, dither))
        return self._answer(key, found, started, shared=shared)

    def encode_anew(self, audio: Waveform, sample_rate: int, dither: float = 1.0) -> Answer:
        """Return the voice of a clip that is neither looked up nor kept nor counted."""
        return Answer(self._encode(audio, sample_rate, dither), "", hit=False)

    def recall(self, key: str) -> Answer:
        """Return the voice that an earlier answer named.

        Raises:
            InvalidInput: it cannot be a key.
            NotFound: the voice is kept no longer.
        """
        started = time.perf_counter()
        entry = self._look_up(checked_key(key))
        if entry is None:
            raise NotFound("voice_key: this voice is not kept (any longer); send its clip")
        return self._answer(key, _Found(entry, encoded=None), started, shared=False)

    def clear(self) -> None:
        """Forget every voice and every count.

        Raises:
            StoreFailed: a store may still have voices.
        """
        for store in self._stores:
            store.clear()
        self.reset()
        self._say("[FunASR Cache] cleared")

    def reset(self) -> None:
        """Begin to count anew."""
        self._statistics.reset()

    def stats(self) -> dict[str, Any]:
        """Return the counts since the start, and per store what it holds."""
        counts = self._statistics.counts()
        stores = {store.name: store.stats() for store in self._stores}
        return {
            "enabled": bool(self._stores),
            "hits": counts.hits,
            "misses": counts.misses,
            "total_requests": counts.hits + counts.misses,
            "hit_rate": counts.hit_rate,
            "cache_size": max((held.get("entries", 0) for held in stores.values()), default=0),
            "max_size": self._capacity if self._stores else 0,
            "time_saved_estimate": f"{counts.saved_seconds:.1f}s",
            "shared": counts.shared,
            "stores": stores,
        }

    def close(self) -> None:
        """Close every store."""
        for store in self._stores:
            store.close()

    def _once(self, key: str, work: Callable[[], "_Found"]) -> tuple["_Found", bool]:
        """Run `work` unless another request does; tell whether it was only waited for."""
        mine: list[_Found] = []

        def noted() -> _Found:
            mine.append(work())
            return mine[0]

        return self._flights.run(key, noted), not mine

    def _encoded(self, key: str, audio: Waveform, sample_rate: int, dither: float) -> "_Found":
        kept = self._look_up(key)
        if kept is not None:
            return _Found(kept, encoded=None)
        started = time.perf_counter()
        voice = self._encode(audio, sample_rate, dither)
        entry = Entry(
            prompt_tokens=voice.prompt_tokens,
            prompt_mel=voice.prompt_mel,
            speaker_embedding=voice.speaker_embedding,
            clip_md5=voice.clip_md5,
            encode_seconds=time.perf_counter() - started,
        )
        for store in self._stores:
            store.put(key, entry)
        return _Found(entry, voice)

    def _look_up(self, key: str) -> Entry | None:
        for number, store in enumerate(self._stores):
            entry = store.get(key)
            if entry is not None:
                for earlier in self._stores[:number]:
                    earlier.put(key, entry)
                for later in self._stores[number + 1 :]:
                    later.touch(key)
                return entry
        return None

    def _answer(self, key: str, found: "_Found", started: float, *, shared: bool) -> Answer:
        entry, name = found.entry, f"hash={found.entry.clip_md5[:8]}..."
        if found.encoded is not None:
            self._statistics.miss(shared=shared)
            self._say(f"[FunASR Cache MISS] {name}")
            if not shared:
                self._say(f"[FunASR Encoding] time={entry.encode_seconds:.2f}s")
            return Answer(found.encoded, key, hit=False)
        self._statistics.hit(entry.encode_seconds)
        self._say(f"[FunASR Cache HIT] {name} (saved ~{entry.encode_seconds:.2f} s)")
        looked_up_ms = 1e3 * (time.perf_counter() - started)
        voice = Voice(
            prompt_tokens=entry.prompt_tokens,
            prompt_mel=entry.prompt_mel,
            speaker_embedding=entry.speaker_embedding,
            stage_ms=np.array([looked_up_ms, 0.0, 0.0, 0.0], dtype=np.float32),
            clip_md5=entry.clip_md5,
        )
        return Answer(voice, key, hit=True)


@dataclass(frozen=True)
class _Found:
    """An entry; with the voice it was made of, if it was made just now."""

    entry: Entry
    encoded: Voice | None
