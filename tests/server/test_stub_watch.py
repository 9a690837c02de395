"""Which models have lost a process."""

import pytest

from server.recovery import StubWatch


@pytest.fixture
def running(monkeypatch):
    """The processes there are, by id; a test changes them."""
    found = {1: "flow", 2: "recognizer"}
    monkeypatch.setattr(StubWatch, "_running", lambda _: dict(found))
    return found


def test_a_process_that_is_gone_is_missed_once(running):
    watch = StubWatch(0)
    assert watch.lost() == set()
    del running[1]
    assert watch.lost() == {"flow"}
    assert watch.lost() == set()


def test_a_process_that_was_replaced_is_not_missed(running):
    watch = StubWatch(0)
    del running[2]
    running[3] = "recognizer"
    assert watch.lost() == set()


def test_a_model_that_comes_is_missed_when_it_goes(running):
    watch = StubWatch(0)
    running[4] = "chat"
    assert watch.lost() == set()
    del running[4]
    assert watch.lost() == {"chat"}
