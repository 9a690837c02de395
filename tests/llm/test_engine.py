import threading
import time

import pytest

from python_backend.errors import Cancelled, RequestError, Unavailable
from python_backend.llm import grammar, sequence
from python_backend.llm.cancellation import EarlyCancellations
from python_backend.llm.request import Failed, Finished
from tests.llm.conftest import Receiver


def run(engine, *generations):
    receivers = [Receiver() for _ in generations]
    for generation, receiver in zip(generations, receivers, strict=True):
        engine.submit(generation, receiver)
    return [receiver.result() for receiver in receivers]


def idle(engine):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stats = engine.stats()
        if stats["running"] == stats["waiting"] == 0:
            return True
        time.sleep(0.01)
    return False


def test_tokens_leave_in_whole_groups_and_keep_the_pattern(make_engine, generation):
    receiver = Receiver()
    make_engine().submit(generation(max_tokens=30, temperature=2.0), receiver)
    end = receiver.end()
    assert [len(group) for group in receiver.groups] == [5] * 6
    assert grammar.misplaced(receiver.tokens) is None
    assert end.reason == "length"
    assert end.usage == (len(generation().prompt.ids), 30)
    assert all(milliseconds > 0 for milliseconds in end.stage_ms)


@pytest.mark.parametrize("rules", [{}, {"top_k": 50}, {"top_p": 0.8}, {"temperature": 0}, {"repetition_aware": True}])
def test_one_seed_gives_one_result_alone_or_in_company(make_engine, generation, rules):
    alone = make_engine(slots=1, prefill_chunk=3)
    wanted = generation(seed=5, max_tokens=60, **rules)
    (expected,) = run(alone, wanted)
    assert run(alone, wanted) == [expected]
    others = [generation(seed=seed, prompt="other words " * seed, max_tokens=5 * seed) for seed in range(1, 7)]
    together = run(make_engine(slots=4), *others[:3], wanted, *others[3:])
    assert together[3] == expected


def test_other_seeds_give_other_results(make_engine, generation):
    results = run(make_engine(), *(generation(seed=seed) for seed in range(4)))
    assert len({tuple(result) for result in results}) == 4


def test_more_requests_than_slots_all_get_their_answer(make_engine, generation):
    engine = make_engine(slots=3)
    results = run(engine, *(generation(seed=seed, max_tokens=5 + 5 * (seed % 4)) for seed in range(17)))
    assert [len(result) for result in results] == [5 + 5 * (seed % 4) for seed in range(17)]
    assert idle(engine)


def test_the_stop_ends_the_answer_between_groups(make_engine, generation, monkeypatch):
    engine, wanted = make_engine(), generation(max_tokens=30)
    forced = [*(engine._runner._offset + token for token in (1, 2, 1024, 1025, 1026)), wanted.stop]

    monkeypatch.setattr(engine._runner, "first", lambda *_: forced[0])
    monkeypatch.setattr(engine._runner, "decode", lambda rows: [forced[len(row.generated)] for row in rows])
    receiver = Receiver()
    engine.submit(wanted, receiver)
    end = receiver.end()
    assert receiver.groups == [[1, 2, 1024, 1025, 1026]]
    assert (end.reason, end.usage[1]) == ("stop", 6)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3], "stopped after 0 tokens"),
        ([0, 0, 3], "stopped after 2 tokens"),
        ([7], "left the pattern"),
        ([5000], "left"),
    ],
)
def test_without_the_grammar_broken_speech_is_an_error_not_silence(generation, demo_tokenizer, ids, message):
    found = sequence.Sequence(generation(grammar=False), Receiver())
    *good, last = [token if token in (3, 7) else demo_tokenizer.audio_offset + token for token in ids]
    for token in good:
        found.accept(token)
    with pytest.raises(RequestError, match=message):
        found.accept(last)


def test_grammar_and_free_requests_share_a_batch(make_engine, generation):
    engine = make_engine()
    expected = run(engine, generation(seed=1, max_tokens=40))
    free, bound = Receiver(), Receiver()
    engine.submit(generation(seed=2, grammar=False), free)
    engine.submit(generation(seed=1, max_tokens=40), bound)
    assert isinstance(free.end(), Failed), "a random model without grammar cannot keep the pattern"
    assert bound.result() == expected[0]


def test_cancel_frees_the_slot(make_engine, generation):
    engine = make_engine(slots=1)
    long, waiting = Receiver(), Receiver()
    engine.submit(generation(max_tokens=900, cancel_id="long"), long)
    engine.submit(generation(max_tokens=5), waiting)
    assert long.started.wait(10)
    assert engine.cancel("long")
    assert isinstance(long.end().error, Cancelled)
    assert len(long.tokens) < 900
    assert len(waiting.result()) == 5
    assert idle(engine)


def test_a_waiting_request_is_cancelled_without_ever_running(make_engine, generation):
    engine = make_engine(slots=1)
    long, waiting = Receiver(), Receiver()
    engine.submit(generation(max_tokens=900, cancel_id="long"), long)
    engine.submit(generation(cancel_id="waiting"), waiting)
    assert engine.cancel("waiting")
    assert isinstance(waiting.end().error, Cancelled)
    assert not waiting.tokens
    engine.cancel("long")


def test_a_cancellation_may_overtake_its_request_once(make_engine, generation):
    engine = make_engine()
    assert not engine.cancel("early")
    receiver = Receiver()
    engine.submit(generation(cancel_id="early"), receiver)
    assert isinstance(receiver.end().error, Cancelled)
    assert len(run(engine, generation(cancel_id="early"))[0]) == 30


def test_early_cancellations_are_forgotten_after_a_minute():
    now = 0.0
    early = EarlyCancellations(lambda: now)
    early.remember("a")
    now = 59.0
    early.remember("b")
    assert not early.take("c")
    now = 61.0
    assert not early.take("a")
    assert early.take("b")
    assert not early.take("b")


def test_a_full_queue_is_refused_at_once(make_engine, generation):
    engine = make_engine(slots=1, max_queue=2)
    first = Receiver()
    engine.submit(generation(max_tokens=900, cancel_id="a"), first)
    assert first.started.wait(10)
    waiting = [Receiver() for _ in range(2)]
    for receiver in waiting:
        engine.submit(generation(max_tokens=5), receiver)
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"^queue full: 2 requests wait"):
        engine.submit(generation(), Receiver())
    assert time.monotonic() - started < 1
    engine.cancel("a")
    assert [len(receiver.result()) for receiver in waiting] == [5, 5]


def test_a_failing_request_takes_nobody_with_it(make_engine, generation, monkeypatch):
    engine = make_engine()
    expected = run(engine, generation(seed=1, max_tokens=60))
    prefill = engine._runner.prefill

    def failing_prefill(slot, ids, start):
        if len(ids) > 20:
            raise RuntimeError("out of memory")
        return prefill(slot, ids, start)

    monkeypatch.setattr(engine._runner, "prefill", failing_prefill)
    good, bad = Receiver(), Receiver()
    engine.submit(generation(seed=1, max_tokens=60), good)
    engine.submit(generation(prompt="far too many words for this one " * 4), bad)
    assert isinstance(bad.end().error, RuntimeError)
    assert good.result() == expected[0]


def test_a_receiver_that_raises_takes_nobody_with_it(make_engine, generation):
    engine = make_engine()
    expected = run(engine, generation(seed=1, max_tokens=60))

    def broken(event):
        raise ValueError("the receiver is gone")

    good = Receiver()
    engine.submit(generation(seed=2), broken)
    engine.submit(generation(seed=1, max_tokens=60), good)
    assert good.result() == expected[0]
    assert idle(engine)


def test_what_is_not_a_number_stays_with_its_request(make_engine, generation, monkeypatch):
    engine = make_engine(slots=2)
    expected = run(engine, generation(seed=1, max_tokens=60))
    prefill = engine._runner.prefill

    def poisoned(slot, ids, start):
        hidden = prefill(slot, ids, start)
        if len(ids) > 20:
            engine._runner.cache.values[:, slot] = float("nan")
            hidden = hidden * float("nan")
        return hidden

    monkeypatch.setattr(engine._runner, "prefill", poisoned)
    for _ in range(3):
        good, bad = Receiver(), Receiver()
        engine.submit(generation(prompt="far too many words for this one " * 4), bad)
        engine.submit(generation(seed=1, max_tokens=60), good)
        assert "not a number" in str(bad.end().error)
        assert good.result() == expected[0]


def test_a_failing_step_fails_its_batch_and_the_engine_goes_on(make_engine, generation, monkeypatch):
    engine = make_engine()
    expected = run(engine, generation())
    with monkeypatch.context() as patch:

        def broken(sequences):
            raise RuntimeError("the device is lost")

        patch.setattr(engine._runner, "decode", broken)
        receiver = Receiver()
        engine.submit(generation(), receiver)
        assert isinstance(receiver.end().error, RuntimeError)
    assert run(engine, generation()) == expected


def test_a_lost_device_breaks_the_engine_rather_than_failing_every_request_to_come(
    make_engine, generation, monkeypatch
):
    engine = make_engine()

    def lost(*_):
        raise RuntimeError("the device is lost")

    for step in ("decode", "clear"):
        monkeypatch.setattr(engine._runner, step, lost)
    receiver, told = Receiver(), []
    engine.on_broken = lambda: told.append(True)
    engine.submit(generation(), receiver)
    assert isinstance(receiver.end().error, RuntimeError)
    engine._thread.join(10)
    assert told == [True]


def test_closing_answers_everybody(make_engine, generation):
    engine = make_engine(slots=1)
    receivers = [Receiver() for _ in range(3)]
    for receiver in receivers:
        engine.submit(generation(max_tokens=900), receiver)
    threading.Timer(0.1, engine.close).start()
    assert all(isinstance(receiver.end().error, Unavailable) for receiver in receivers)
    engine.close()
    with pytest.raises(Unavailable, match="has stopped"):
        engine.submit(generation(), Receiver())


def test_an_engine_that_breaks_leaves_nobody_waiting(make_engine, generation, monkeypatch):
    engine = make_engine(slots=1)
    receivers = [Receiver() for _ in range(2)]
    for receiver in receivers:
        engine.submit(generation(max_tokens=900), receiver)
    assert receivers[0].started.wait(10)

    def broken():
        raise RuntimeError("a bug")

    told = []
    engine.on_broken = lambda: told.append(all(isinstance(receiver.end().error, Unavailable) for receiver in receivers))
    monkeypatch.setattr(engine._scheduler, "release", broken)
    engine._thread.join(10)
    assert told == [True], "everybody has an answer before the end"
    with pytest.raises(Unavailable, match="has stopped"):
        engine.submit(generation(), Receiver())


def test_stats_tell_what_the_engine_holds(make_engine, generation):
    engine = make_engine(slots=2, context=512)
    stats = engine.stats()
    assert (stats["slots"], stats["context"], stats["running"], stats["waiting"]) == (2, 512, 0, 0)
    assert stats["kv_bytes"] == 2 * 4 * 2 * 2 * 513 * 32 * 4  # keys and values, layers, slots, groups, positions, head
    receiver = Receiver()
    engine.submit(generation(max_tokens=400, cancel_id="a"), receiver)
    assert receiver.started.wait(10)
    assert engine.stats()["running"] == 1
    engine.cancel("a")
    assert not isinstance(receiver.end(), Finished)
