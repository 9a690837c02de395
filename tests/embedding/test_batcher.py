import threading

import numpy as np
import pytest

from python_backend.embedding.batcher import Batcher
from python_backend.embedding.network import TokenizedText
from python_backend.errors import Unavailable


def text(length, pooling="mean"):
    return TokenizedText(list(range(length)), False, pooling)


class Recorder:
    """Gives each text its length as vector, and keeps which texts came together."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, texts):
        self.batches.append([(len(item.ids), item.pooling) for item in texts])
        assert self.gate.wait(20)
        if any(len(item.ids) == 13 for item in texts):
            raise ValueError("unlucky")
        return np.array([[len(item.ids)] for item in texts], np.float32)


@pytest.fixture
def run():
    return Recorder()


@pytest.fixture
def batcher(run):
    batcher = Batcher(run, texts=8, tokens=40, max_queue=30)
    yield batcher
    run.gate.set()
    batcher.close()


def at_once(batcher, run, requests):
    """Send `requests` while the batcher is held up by another."""
    run.gate.clear()
    results = {}

    def send(number, texts):
        try:
            results[number] = batcher.embed(texts)[:, 0].tolist()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=send, args=item) for item in enumerate([[text(1)], *requests])]
    threads[0].start()
    while not run.batches:
        pass
    for thread in threads[1:]:
        thread.start()
    while batcher._waiting.qsize() < sum(map(len, requests)):
        pass
    run.gate.set()
    for thread in threads:
        thread.join(20)
    return [results[number] for number in range(1, len(threads))]


def test_requests_share_a_batch_and_get_their_own(batcher, run):
    assert at_once(batcher, run, [[text(3)], [text(5), text(4)], [text(2)]]) == [[3], [5, 4], [2]]
    assert run.batches[1:] == [[(2, "mean"), (3, "mean"), (4, "mean"), (5, "mean")]]


def test_batches_are_bounded_in_texts_and_padded_tokens_and_of_one_pooling(batcher, run):
    lengths = [20, 19, 2, 60, 3, 2, 2, 2, 2, 2]
    requests = [[text(length)] for length in lengths] + [[text(2, "last")]]
    assert [result[0] for result in at_once(batcher, run, requests)] == [*lengths, 2]
    for batch in run.batches:
        assert len(batch) <= 8
        assert len(batch) == 1 or len(batch) * max(length for length, _ in batch) <= 40
        assert len({pooling for _, pooling in batch}) == 1


def test_a_failure_is_told_to_those_it_concerns_and_the_next_is_served(batcher, run):
    failed, good = at_once(batcher, run, [[text(13)], [text(13, "last"), text(2)]])
    assert isinstance(failed, ValueError)
    assert isinstance(good, ValueError)
    assert batcher.embed([text(4)]).tolist() == [[4]]


def test_a_full_queue_is_refused(batcher, run):
    with pytest.raises(Unavailable, match="queue full"):
        batcher.embed([text(2)] * 31)


def test_closing_finishes_what_waits(run):
    batcher = Batcher(run, texts=2, tokens=40, max_queue=30)
    results = at_once(batcher, run, [[text(2), text(3), text(4)]])
    batcher.close()
    assert results == [[2, 3, 4]]
    assert not batcher._thread.is_alive()
