"""Who waits, who runs, and in which slot. The engine's lock guards it."""

import bisect
import time

from python_backend.errors import Cancelled, RequestError, Unavailable
from python_backend.llm.sequence import Sequence


class Scheduler:
    """A bounded queue, ordered by priority and then by arrival, in front of the slots.

    Args:
        slots: requests that run at once.
        max_queue: requests that may wait for a slot; further ones are refused.
    """

    def __init__(self, slots: int, max_queue: int):
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._free = list(range(slots))
        self._max_queue = max_queue

    def add(self, sequence: Sequence) -> None:
        """Queue `sequence` behind those of its own priority.

        Raises:
            Unavailable: the queue is full.
        """
        if len(self.waiting) >= self._max_queue + len(self._free):
            raise Unavailable(f"queue full: {len(self.waiting)} requests wait for the language model")
        bisect.insort(self.waiting, sequence, key=lambda other: (other.generation.urgency.priority, other.arrived))

    def named(self, cancel_id: str) -> list[Sequence]:
        """Return the sequences that were submitted as `cancel_id`."""
        return [sequence for sequence in self._all() if sequence.generation.cancel_id == cancel_id]

    def lost(self) -> list[tuple[Sequence, RequestError]]:
        """Return the sequences that need no further step, cancelled or past their deadline, and what to tell them."""
        now = time.perf_counter()
        found: list[tuple[Sequence, RequestError]] = []
        for sequence in self._all():
            if sequence.cancelled:
                found.append((sequence, Cancelled("the request was cancelled")))
            elif now > sequence.deadline:
                found.append((sequence, Unavailable("deadline passed: the request took longer than it was given")))
        return found

    def admit(self) -> None:
        """Give free slots to those in front of the queue."""
        while self.waiting and self._free:
            sequence = self.waiting.pop(0)
            # The lowest slot, because a decode step covers all rows up to the highest one in use.
            sequence.slot = min(self._free)
            self._free.remove(sequence.slot)
            self.running.append(sequence)

    def release(self) -> None:
        """Take the sequences that are done from the queue and the slots."""
        self._free += [sequence.slot for sequence in self.running if sequence.done]
        self.running = [sequence for sequence in self.running if not sequence.done]
        self.waiting = [sequence for sequence in self.waiting if not sequence.done]

    def _all(self) -> tuple[Sequence, ...]:
        return (*self.waiting, *self.running)
