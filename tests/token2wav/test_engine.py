"""The flow's one thread: order, streams that share a solve, errors that stay with their own request, memory."""

import ctypes
import gc
import mmap
import random
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from python_backend.errors import InvalidInput, NotFound, Unavailable
from python_backend.token2wav import engine as engine_module
from python_backend.token2wav.engine import CloseStream, FlowEngine, NextChunk, OpenStream
from python_backend.token2wav.streaming.chunks import Chunk, Chunker
from python_backend.token2wav.streaming.flow import StreamingFlow
from python_backend.token2wav.streaming.store import PromptCache, StreamStore
from python_backend.token2wav.token2mel import MelRequest, TokenToMel
from tests.token2wav.streaming.voices import random_tokens, random_voice

VOICE = MelRequest(np.empty(0, dtype=np.int32), *random_voice(groups=4), seed=3, steps=1)
WAIT = 30


class Gate:
    """Stands in front of `advance`: holds the flow's thread, and notes how many streams share each solve."""

    def __init__(self, streaming):
        self._advance = streaming.advance
        self.open = threading.Event()
        self.reached = threading.Event()
        self.together = []

    def __call__(self, streams, chunks):
        self.reached.set()
        assert self.open.wait(WAIT)
        self.together.append(len(streams))
        return self._advance(streams, chunks)


class Running:
    def __init__(self, flow, runtime, config, *, streams=8, nbytes=1 << 30, idle=60.0, has_streams=True):
        self.streaming = StreamingFlow(flow, config)
        self.store = StreamStore(streams, nbytes, idle)
        self.prompts = PromptCache(1 << 28)
        self.engine = FlowEngine(
            TokenToMel(runtime, config), self.streaming if has_streams else None, config, self.store, self.prompts
        )

    def do(self, work):
        return self.engine.submit(work).result(WAIT)

    def speak(self, stream_id, tokens, voice=VOICE):
        self.do(OpenStream(stream_id, voice))
        return [self.do(NextChunk(stream_id, chunk)).mel for chunk in Chunker().push(tokens, last=True)]


@pytest.fixture
def start(flow, runtime, config):
    started = []

    def begin(**options):
        started.append(Running(flow, runtime, config, **options))
        return started[-1]

    yield begin
    for each in started:
        each.engine.close()


def test_a_stream_through_the_engine_is_that_of_the_flow(start):
    running, tokens = start(), random_tokens(20)
    prompt = running.streaming.prepare(*random_voice(groups=4), steps=1, guidance=0.7)
    stream = running.streaming.open(prompt, VOICE.seed)
    alone = [running.streaming.push(stream, chunk) for chunk in Chunker().push(tokens, last=True)]
    for expected, actual in zip(alone, running.speak("a", tokens), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert len(running.store) == 0, "the last chunk closes it"
    with pytest.raises(NotFound, match="no stream 'a'"):
        running.do(NextChunk("a", Chunk(tokens[:5], last=True)))


def test_an_opening_may_bring_its_first_chunk(start):
    running, tokens = start(), random_tokens(20)
    first, *others = Chunker().push(tokens, last=True)
    expected = running.speak("two calls", tokens)
    found = [running.do(OpenStream("one call", VOICE, first)).mel]
    found += [running.do(NextChunk("one call", chunk)).mel for chunk in others]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), np.concatenate(expected, axis=1))


def test_waiting_chunks_of_equal_length_share_a_solve(start, monkeypatch):
    running = start()
    gate = Gate(running.streaming)
    texts = [random_tokens(20, seed) for seed in range(4)]
    chunks = [Chunker().push(tokens, last=True) for tokens in texts]
    gate.open.set()
    alone = [running.speak(f"alone {row}", tokens)[0] for row, tokens in enumerate(texts)]
    gate.open.clear()
    monkeypatch.setattr(running.streaming, "advance", gate)
    for row in range(4):
        running.do(OpenStream(f"{row}", VOICE))
    running.do(OpenStream("other settings", replace(VOICE, steps=2)))
    running.do(OpenStream("holds", VOICE))
    answers = [running.engine.submit(NextChunk("holds", Chunk(random_tokens(3), last=True)))]
    assert gate.reached.wait(WAIT)
    answers += [running.engine.submit(NextChunk(f"{row}", chunks[row][0])) for row in range(4)]
    answers.append(running.engine.submit(NextChunk("other settings", chunks[0][0])))
    answers.append(running.engine.submit(NextChunk("0", chunks[0][1])))
    gate.open.set()
    found = [answer.result(WAIT).mel for answer in answers]
    assert gate.together == [1, 4, 1, 1], "the same length, the same settings, and a stream's chunks in their order"
    for row in range(4):
        np.testing.assert_allclose(found[1 + row], alone[row], atol=2e-5)


def test_streams_go_before_whole_utterances_but_not_for_ever(start, monkeypatch):
    running = start()
    gate = Gate(running.streaming)
    monkeypatch.setattr(running.streaming, "advance", gate)
    ends = []

    def note(name, work):
        answer = running.engine.submit(work)
        answer.add_done_callback(lambda _: ends.append(name))
        return answer

    whole = replace(VOICE, tokens=random_tokens(3))
    for stream_id in ("holds", "early", "late"):
        running.do(OpenStream(stream_id, VOICE))
    answers = [note("holds", NextChunk("holds", Chunk(random_tokens(2), last=True)))]
    assert gate.reached.wait(WAIT)
    answers += [note("whole", whole), note("early", NextChunk("early", Chunk(random_tokens(2), last=True)))]
    monkeypatch.setattr(engine_module, "WHOLE_WAITS_SECONDS", -1.0)
    answers += [note("overdue", whole)]
    gate.open.set()
    for answer in answers:
        answer.result(WAIT)
    assert ends == ["holds", "overdue", "early", "whole"]


def test_what_is_needed_first_is_rendered_first(start, monkeypatch):
    running = start()
    gate = Gate(running.streaming)
    monkeypatch.setattr(running.streaming, "advance", gate)
    ends, leads = [], {"ahead": 0.9, "nearly silent": 0.05, "silent": -3.0}
    for stream_id in ("holds", *leads):
        running.do(OpenStream(stream_id, VOICE))
    answers = [running.engine.submit(NextChunk("holds", Chunk(random_tokens(9), last=True)))]
    assert gate.reached.wait(WAIT)
    for length, (stream_id, lead) in enumerate(leads.items(), start=1):  # of different lengths: none joins another
        answers.append(running.engine.submit(NextChunk(stream_id, Chunk(random_tokens(length), last=True), lead)))
        answers[-1].add_done_callback(lambda _, stream_id=stream_id: ends.append(stream_id))
    gate.open.set()
    for answer in answers:
        answer.result(WAIT)
    assert ends == ["silent", "nearly silent", "ahead"]


def test_closing_a_stream_spares_the_work_that_waits_for_it(start, monkeypatch):
    running = start()
    gate = Gate(running.streaming)
    monkeypatch.setattr(running.streaming, "advance", gate)
    for stream_id in ("holds", "closed"):
        running.do(OpenStream(stream_id, VOICE))
    holds = running.engine.submit(NextChunk("holds", Chunk(random_tokens(2), last=True)))
    assert gate.reached.wait(WAIT)
    waiting = running.engine.submit(NextChunk("closed", Chunk(random_tokens(2), last=True)))
    running.engine.submit(CloseStream("closed"))
    gate.open.set()
    holds.result(WAIT)
    with pytest.raises(NotFound, match="no stream 'closed'"):
        waiting.result(WAIT)
    assert gate.together == [1]


def test_what_is_wrong_fails_alone(start):
    running, tokens = start(streams=2), random_tokens(7)
    running.do(OpenStream("a", VOICE))
    with pytest.raises(InvalidInput, match="tokens: holds 90 tokens"):
        running.do(NextChunk("a", Chunk(random_tokens(18), last=False)))
    with pytest.raises(InvalidInput, match="stream_id: 'a' is open already"):
        running.do(OpenStream("a", VOICE))
    with pytest.raises(InvalidInput, match="steps: must be"):
        running.do(OpenStream("b", replace(VOICE, steps=0)))
    with pytest.raises(InvalidInput, match="prompt_tokens: "):
        running.do(OpenStream("b", replace(VOICE, prompt_tokens=random_tokens(2)[:7])))
    running.do(OpenStream("b", VOICE))
    with pytest.raises(Unavailable, match="queue full: 2 streams are open"):
        running.do(OpenStream("c", VOICE))
    running.do(CloseStream("b"))
    running.do(CloseStream("b"))
    with pytest.raises(NotFound):
        running.do(NextChunk("b", Chunk(tokens, last=True)))
    assert running.do(NextChunk("a", Chunk(tokens, last=True))).mel.shape == (80, 42)


def test_a_solve_that_breaks_ends_its_streams_and_no_others(start, monkeypatch):
    running, tokens = start(), random_tokens(7)
    running.do(OpenStream("a", VOICE))
    running.do(OpenStream("b", VOICE))
    with monkeypatch.context() as broken:
        broken.setattr(running.streaming, "advance", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            running.do(NextChunk("a", Chunk(tokens, last=False)))
    with pytest.raises(NotFound):
        running.do(NextChunk("a", Chunk(tokens, last=False)))
    assert running.do(NextChunk("b", Chunk(tokens, last=True))).mel.shape == (80, 42)


def test_idle_streams_are_freed_without_anybody_asking(start):
    running = start(idle=0.2)
    running.do(OpenStream("left", VOICE))
    assert running.store.nbytes > 0
    gone = threading.Event()
    for _ in range(100):
        if not len(running.store):
            break
        gone.wait(0.05)
    assert running.store.nbytes == 0


def test_without_a_torch_runtime_there_are_no_streams(start):
    running = start(has_streams=False)
    with pytest.raises(Unavailable, match="streams need the flow's torch runtime"):
        running.do(OpenStream("a", VOICE))
    assert running.do(replace(VOICE, tokens=random_tokens(2))).mel.shape == (80, 12)


def resident():
    """Bytes of memory that this process holds, without what the C library keeps for the next allocation."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize("dropped", [100, pytest.param(500, marks=pytest.mark.full)])
def test_streams_dropped_at_random_moments_leave_no_memory_behind(start, dropped):
    running, chooser = start(streams=16), random.Random(dropped)
    chunks = Chunker().push(random_tokens(40), last=True)

    def open_and_drop(count):
        live = {}
        for number in range(count):
            running.do(OpenStream(f"{number}", replace(VOICE, seed=number)))
            live[f"{number}"] = iter(chunks)
            for stream_id in chooser.sample(sorted(live), k=min(len(live), 2)):
                chunk = next(live[stream_id], None)
                if chunk is not None:
                    running.do(NextChunk(stream_id, chunk))
            if len(live) == 12 or chooser.random() < 0.3:
                leaving = chooser.choice(sorted(live))
                del live[leaving]
                running.do(CloseStream(leaving))
        for stream_id in live:
            running.do(CloseStream(stream_id))

    torch.set_num_threads(1)
    open_and_drop(40)  # libraries fill their pools
    before = resident()
    open_and_drop(dropped)
    assert (len(running.store), running.store.nbytes) == (0, 0)
    assert resident() < 1.02 * before
