import math

import pytest

from python_backend.errors import Cancelled, InvalidInput, Unavailable
from python_backend.llm.request import Urgency
from python_backend.llm.scheduler import Scheduler
from python_backend.llm.sequence import Sequence
from tests.llm.conftest import Receiver


@pytest.fixture
def queued(generation):
    def make(scheduler, **options):
        sequence = Sequence(generation(**options), Receiver())
        scheduler.add(sequence)
        return sequence

    return make


def test_priority_goes_before_arrival(queued):
    scheduler = Scheduler(1, 8)
    late, usual, second, urgent = (queued(scheduler, priority=priority) for priority in (5, 0, 0, -1))
    assert scheduler.waiting == [urgent, usual, second, late]
    scheduler.admit()
    assert scheduler.running == [urgent]
    assert urgent.slot == 0


def test_the_lowest_free_slot_is_taken(queued):
    scheduler = Scheduler(3, 8)
    first, second, third = (queued(scheduler) for _ in range(3))
    scheduler.admit()
    assert [first.slot, second.slot, third.slot] == [0, 1, 2]
    first.done = third.done = True
    scheduler.release()
    fourth = queued(scheduler)
    scheduler.admit()
    assert fourth.slot == 0
    assert scheduler.running == [second, fourth]


def test_a_full_queue_refuses(queued):
    scheduler = Scheduler(1, 2)
    for _ in range(3):  # one for the free slot
        queued(scheduler)
    with pytest.raises(Unavailable, match=r"^queue full: 3 requests"):
        queued(scheduler)
    scheduler.admit()
    with pytest.raises(Unavailable, match=r"^queue full: 2 requests"):
        queued(scheduler)


def test_cancelled_and_late_ones_are_found_wherever_they_are(queued):
    scheduler = Scheduler(2, 8)
    running, waiting = queued(scheduler, seconds=1e-9), queued(scheduler, cancel_id="a")
    scheduler.admit()
    more = queued(scheduler, cancel_id="a")
    more.cancelled = True
    assert scheduler.named("a") == [more, waiting]
    found = dict(scheduler.lost())
    assert set(found) == {running, more}
    assert isinstance(found[more], Cancelled)
    assert str(found[running]).startswith("deadline passed: ")


def test_urgency_is_read_from_request_parameters():
    assert Urgency.of({}) == Urgency(0, math.inf)
    assert Urgency.of({"priority_level": -3, "deadline_ms": 1500, "other": "x"}) == Urgency(-3, 1.5)
    for wrong in ({"priority_level": "high"}, {"deadline_ms": 0}, {"deadline_ms": "soon"}):
        with pytest.raises(InvalidInput) as caught:
            Urgency.of(wrong)
        assert caught.value.field in wrong
