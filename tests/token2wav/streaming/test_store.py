"""What keeps the open streams and the prompts within their bounds."""

import numpy as np
import pytest

from python_backend.errors import InvalidInput, NotFound, Unavailable
from python_backend.token2wav.streaming.store import PromptCache, StreamStore, prompt_key
from tests.token2wav.streaming.voices import random_voice


class Stream:
    open = True

    def close(self):
        self.open = False


class Prompt:
    def __init__(self, nbytes):
        self.nbytes = nbytes


def test_streams_are_bounded_by_count_and_bytes_and_freed_for_others():
    store = StreamStore(max_streams=3, max_bytes=100, idle_seconds=60)
    store.add("a", 40, Stream)
    store.add("b", 40, Stream)
    with pytest.raises(Unavailable, match=r"^queue full: open streams take 80 bytes, this one 21, the limit is 100"):
        store.add("c", 21, Stream)
    store.add("c", 20, Stream)
    with pytest.raises(Unavailable, match=r"^queue full: 3 streams are open, the limit is 3"):
        store.add("d", 0, Stream)
    assert (len(store), store.nbytes) == (3, 100)
    freed = store.use("a")
    assert store.close("a")
    assert not freed.open
    assert not store.close("a"), "closing twice is no error"
    store.add("d", 40, Stream)
    with pytest.raises(InvalidInput, match="stream_id: 'd' is open already"):
        store.add("d", 0, Stream)


def test_a_refused_stream_is_not_even_made():
    store = StreamStore(max_streams=1, max_bytes=10, idle_seconds=60)
    with pytest.raises(Unavailable):
        store.add("a", 11, lambda: pytest.fail("allocated"))
    assert len(store) == 0


def test_streams_that_nobody_uses_are_closed():
    now = 0.0
    store = StreamStore(max_streams=3, max_bytes=100, idle_seconds=60, clock=lambda: now)
    store.add("idle", 1, Stream)
    store.add("used", 1, Stream)
    idle = store.use("idle")
    now = 50.0
    store.use("used")
    now = 61.0
    assert store.close_idle() == ["idle"]
    assert not idle.open
    assert store.use("used").open
    with pytest.raises(NotFound, match=r"^stream_id: no stream 'idle'; .* not used for 60 s"):
        store.use("idle")


def test_the_prompts_used_last_stay():
    made = []

    def get(name, nbytes=40):
        return cache.get(name, lambda: made.append(name) or Prompt(nbytes))

    cache = PromptCache(max_bytes=100)
    get(b"a"), get(b"b"), get(b"a"), get(b"c")
    assert made == [b"a", b"b", b"c"]
    get(b"a")
    assert made == [b"a", b"b", b"c"], "b was the least recently used"
    get(b"b")
    assert made[-1] == b"b"
    assert cache.nbytes == 80
    get(b"giant", 101)
    assert cache.nbytes == 0, "what does not fit is not kept"


def test_a_prompt_is_known_by_its_content_and_solver_settings():
    tokens, mel, embedding = random_voice(groups=3)
    key = prompt_key(tokens, mel, embedding, 10, 0.7)
    assert key == prompt_key(tokens.copy(), np.asfortranarray(mel), embedding.copy(), 10, 0.7)
    changed = [
        prompt_key(np.concatenate([tokens[:-1], tokens[-1:] ^ 1]), mel, embedding, 10, 0.7),
        prompt_key(tokens, mel + np.float32(1e-3), embedding, 10, 0.7),
        prompt_key(tokens, mel.reshape(40, -1), embedding, 10, 0.7),
        prompt_key(tokens, mel, -embedding, 10, 0.7),
        prompt_key(tokens, mel, embedding, 9, 0.7),
        prompt_key(tokens, mel, embedding, 10, 0.8),
    ]
    assert len({key, *changed}) == 7
