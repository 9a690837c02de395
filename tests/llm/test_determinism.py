"""One seed gives one result, bit by bit in deterministic mode, whatever joins, leaves or is cancelled beside it."""

import random

import pytest
import torch

from python_backend.errors import Cancelled, Unavailable
from python_backend.llm import packing, weights
from python_backend.llm.engine import Engine
from python_backend.llm.request import Failed
from python_backend.llm.runner import Runner
from tests.llm.conftest import Receiver

DOOMED = 99


def answers(engine, generations):
    found = []
    for generation in generations:
        receiver = Receiver()
        engine.submit(generation, receiver)
        found.append(receiver.result())
    return found


def requests(generation, count, chooser):
    prompts = ["the voice speaks " * 12 + "first", "the voice speaks " * 12 + "a second text", "short", "word " * 150]
    rules = [{}, {"top_k": 20}, {"top_p": 0.7}, {"temperature": 0}, {"temperature": 1.5, "repetition_aware": True}]
    return [
        generation(
            seed=seed,
            prompt=prompts[seed % 4],
            prefix=36 if seed % 4 < 2 else 0,
            max_tokens=5 * chooser.randint(1, 20),
            **rules[seed % 5],
        )
        for seed in range(count)
    ]


class RecordingRunner(Runner):
    """Keeps the hidden state behind every choice, by seed and step."""

    def _ids(self, decoded, table, rows):
        for state, sequence in zip(decoded.hidden, rows, strict=True):
            if sequence is not None:
                key = (sequence.generation.sampling.seed, len(sequence.generated))
                self.seen.setdefault(key, set()).add(state.view(torch.uint8).numpy().tobytes())
        return super()._ids(decoded, table, rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_joins_leaves_and_cancels_change_no_token(demo, demo_tokenizer, generation, dtype):
    model = packing.pack(weights.load(demo, torch.device("cpu"), dtype))
    chooser = random.Random(4)
    wanted = requests(generation, 24, chooser)

    states = {}

    def make(prefix_bytes):
        runner = RecordingRunner(model, 6, 512, demo_tokenizer.audio_offset, demo_tokenizer.eot, deterministic=True)
        runner.seen = states
        return Engine(runner, max_queue=100, prefill_chunk=16, prefix_bytes=prefix_bytes)

    alone = make(prefix_bytes=0)
    expected = answers(alone, wanted)
    alone.close()

    engine = make(prefix_bytes=10**8)
    receivers = []
    for number, request in enumerate(wanted):
        receiver = Receiver()
        receivers.append(receiver)
        engine.submit(request, receiver)
        if number % 3 == 0:
            doomed = Receiver()
            engine.submit(generation(seed=DOOMED, max_tokens=400, cancel_id=f"doomed-{number}"), doomed)
            if number % 2:
                doomed.started.wait(0.2)
            engine.cancel(f"doomed-{number}")
            end = doomed.end()
            assert isinstance(end, Failed)
            assert isinstance(end.error, Cancelled)
    assert [receiver.result() for receiver in receivers] == expected
    assert {len(seen) for (seed, _), seen in states.items() if seed != DOOMED} == {1}, "the numbers differ"
    assert engine.stats()["prefix_hits"] >= 10
    engine.close()


def test_a_kept_prefix_gives_the_same_tokens_and_is_counted(make_engine, generation):
    engine = make_engine(prefix_bytes=10**8, prefill_chunk=16)
    request = generation(prompt="some voice or other " * 10, prefix=40, max_tokens=50)
    first, second = answers(engine, [request, request])
    assert first == second == answers(make_engine(), [request])[0]
    stats = engine.stats()
    assert (stats["prefix_hits"], stats["prefix_misses"], stats["tokens"]) == (1, 1, 100)
    assert stats["prefix_bytes"] > 0


def test_a_deadline_ends_waiting_and_running_requests(make_engine, generation):
    engine = make_engine(slots=1)
    running, waiting, patient = Receiver(), Receiver(), Receiver()
    engine.submit(generation(max_tokens=900, seconds=0.3), running)
    engine.submit(generation(seconds=0.05), waiting)
    engine.submit(generation(seconds=60), patient)
    for receiver in (waiting, running):
        end = receiver.end()
        assert isinstance(end.error, Unavailable)
        assert str(end.error).startswith("deadline passed: ")
    assert not waiting.tokens
    assert running.tokens
    assert len(patient.result()) == 30


def test_an_urgent_request_overtakes_the_queue(make_engine, generation):
    engine = make_engine(slots=1)
    order = []
    first = Receiver()
    engine.submit(generation(max_tokens=900, cancel_id="first"), first)
    assert first.started.wait(10)
    ends = {}
    for name, priority in (("usual", 0), ("patient", 5), ("urgent", -1)):
        ends[name] = Receiver()

        def emit(event, name=name):
            if not ends[name].started.is_set():
                order.append(name)
            ends[name](event)

        engine.submit(generation(priority=priority, max_tokens=5), emit)
    engine.cancel("first")
    for receiver in ends.values():
        receiver.result()
    assert order == ["urgent", "usual", "patient"]


def test_a_long_prompt_does_not_stall_a_running_stream(make_engine, generation, monkeypatch):
    engine = make_engine(prefill_chunk=16)
    turns = []
    prefill, decode = engine._runner.prefill, engine._runner.decode
    monkeypatch.setattr(engine._runner, "prefill", lambda *call: turns.append("prefill") or prefill(*call))
    monkeypatch.setattr(engine._runner, "decode", lambda *call: turns.append("decode") or decode(*call))
    stream, long = Receiver(), Receiver()
    engine.submit(generation(max_tokens=300), stream)
    assert stream.started.wait(10)
    engine.submit(generation(prompt="word " * 300, max_tokens=5), long)
    long.result()
    stream.result()
    first = turns.index("prefill", 1)
    assert turns[first : first + 8] == ["prefill", "decode"] * 4


def test_answers_are_measured(make_engine, generation):
    engine = make_engine()
    answers(engine, [generation(max_tokens=20), generation(max_tokens=5, seed=1)])
    failed = Receiver()
    engine.submit(generation(grammar=False), failed)
    failed.end()
    measures = engine.measures
    assert measures.tokens == 25
    assert measures.ended == {"length": 2, "error": 1}
    assert len(measures.first_token_seconds) == len(measures.token_seconds) == 2
    assert all(0 < seconds < 60 for seconds in (*measures.first_token_seconds, *measures.token_seconds))
