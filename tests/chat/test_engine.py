import time
from contextlib import suppress

import pytest

from python_backend.chat.request import Sampling
from python_backend.errors import Unavailable
from training.chat.corpus import Corpus

# What the tiny model was not trained on, in these words.
UNKNOWN = (
    "Who won the world cup in 1998?",
    "How tall is Mount Everest?",
    "推荐几本好书",
    "怎么做番茄炒蛋",
    "what is 7*8",
)


def test_it_says_what_it_learnt_many_at_once(talk):
    known = Corpus().known
    questions = list(known)[:60]
    conversations = [talk.begin(question) for question in questions]
    assert [conversation.text for conversation in conversations] == [known[question] for question in questions]
    assert {conversation.reason for conversation in conversations} == {"stop"}
    assert talk.engine.under_way == 0


def test_it_admits_what_it_does_not_know(talk):
    corpus = Corpus()
    for question in UNKNOWN:
        assert talk.begin(question).text == corpus.fallback(question)


def test_text_comes_in_pieces_and_ends_at_the_limit(talk):
    whole = talk.begin("请用一句话总结量子计算")
    assert whole.text.startswith("量子计算")
    assert len([piece for piece in whole.pieces if piece]) > 1
    short = talk.begin("hi", max_tokens=3)
    assert short.text == "Hello! How"
    assert (short.reason, short.tokens) == ("length", 3)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0, 1.0, 0),
        Sampling(2.0, 1e-6, 0),
        Sampling(1e-9, 1.0, 0),
        Sampling(0.5, 0.5, 10**9),
        Sampling(2.0, 1.0, 1),
    ],
)
def test_sampling_of_any_kind_ends(talk, sampling):
    assert talk.begin("hi", sampling, max_tokens=20).text


def test_a_cancelled_conversation_makes_room(talk):
    conversation = talk.begin("tell me a joke", Sampling(2.0, 1.0, 0), max_tokens=400)
    assert conversation.begun.wait(30)
    talk.engine.cancel(talk.last)
    seen = conversation.tokens
    assert talk.engine.under_way == 0
    assert talk.begin("hi").text == "Hello! How can I help you?"
    assert conversation.tokens <= seen + 1
    assert not conversation.done.is_set()


def test_a_full_queue_is_refused(talk):
    def crowd():
        for _ in range(65):
            talk.begin("tell me a story", max_tokens=100)

    with pytest.raises(Unavailable, match="queue full"):
        crowd()
    deadline = time.monotonic() + 60
    while talk.engine.under_way:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_generation_that_breaks_fails_its_callers_and_starts_anew(talk):
    def broken(*_):
        raise RuntimeError("out of order")

    talk.engine._manager.batch_processor._generation_step = broken
    failed = talk.begin("hi")
    assert failed.done.wait(30)
    assert "out of order" in str(failed.error)
    assert eventually(lambda: talk.begin("hi").text) == "Hello! How can I help you?"


def eventually(ask):
    """Return the first answer of `ask` that is none of a broken generation."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            if answer := ask():
                return answer
        time.sleep(0.05)
    return None
