"""Entries that tell by themselves whether they are whole."""

import hashlib

import numpy as np

from python_backend.voice.cache.entry import Entry
from python_backend.voice.encoder import Voice


def key_of(number: int) -> str:
    return hashlib.sha256(f"voice {number}".encode()).hexdigest()


def entry_of(number: int, frames: int = 40) -> Entry:
    random = np.random.default_rng(number)
    return Entry(
        prompt_tokens=random.integers(0, 5120, 5 * frames).astype(np.int32),
        prompt_mel=random.standard_normal((80, frames)).astype(np.float32),
        speaker_embedding=random.standard_normal(192).astype(np.float32),
        clip_md5=hashlib.md5(f"{number}".encode(), usedforsecurity=False).hexdigest(),
        encode_seconds=number + 0.5,
    )


def voice_of(number: int) -> Voice:
    entry = entry_of(number)
    return Voice(
        entry.prompt_tokens,
        entry.prompt_mel,
        entry.speaker_embedding,
        np.array([1, 2, 3, 4], np.float32),
        entry.clip_md5,
    )


def assert_same(one: Entry | Voice, other: Entry | Voice) -> None:
    for name in ("prompt_tokens", "prompt_mel", "speaker_embedding"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert one.clip_md5 == other.clip_md5
