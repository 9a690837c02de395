"""The engine: one thread that takes requests into the batch and out of it between any two steps."""

import logging
import threading
from collections import deque

from python_backend.errors import Cancelled, RequestError, Unavailable
from python_backend.llm.cancellation import EarlyCancellations
from python_backend.llm.request import Emit, Generation
from python_backend.llm.runner import Runner
from python_backend.llm.sequence import Sequence

log = logging.getLogger(__name__)


class Engine:
    """Runs generations on one model, as many at once as the cache has slots.

    Each turn of its loop drops what was cancelled, fills free slots from the queue, computes one chunk of one waiting
    prompt, and takes one decode step for everything that runs. Events are emitted on the engine's thread, so a receiver
    must only pass them on.

    Args:
        max_queue: requests that may wait for a slot; further ones are refused.
        prefill_chunk: prompt ids computed per turn, the longest pause a running stream sees.
    """

    def __init__(self, runner: Runner, max_queue: int = 64, prefill_chunk: int = 256):
        self._runner = runner
        self._max_queue = max_queue
        self._prefill_chunk = prefill_chunk
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._free = list(range(runner.cache.slots))
        self._early = EarlyCancellations()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation, emit: Emit) -> Sequence:
        """Queue a generation; its events, the last one `Finished` or `Failed`, go to `emit`.

        Raises:
            Unavailable: the queue is full, or the engine is shutting down.
        """
        sequence = Sequence(generation, emit)
        with self._changed:
            if self._closing:
                raise Unavailable("the language model is shutting down")
            if len(self._waiting) >= self._max_queue + len(self._free):
                raise Unavailable(f"queue full: {len(self._waiting)} requests wait for the language model")
            sequence.cancelled = self._early.take(generation.cancel_id)
            self._waiting.append(sequence)
            self._changed.notify()
        return sequence

    def cancel(self, cancel_id: str) -> bool:
        """Drop the requests named `cancel_id` before their next step; if there is none yet, the next to come.

        Returns:
            Whether there was one.
        """
        with self._changed:
            found = [s for s in (*self._waiting, *self._running) if s.generation.cancel_id == cancel_id]
            for sequence in found:
                sequence.cancelled = True
            if not found:
                self._early.remember(cancel_id)
            self._changed.notify()
        return bool(found)

    def stats(self) -> dict[str, int]:
        """Return the numbers of waiting and running requests and the size of the cache."""
        with self._changed:
            return {
                "waiting": len(self._waiting),
                "running": len(self._running),
                "slots": self._runner.cache.slots,
                "context": self._runner.cache.capacity,
                "kv_bytes": self._runner.cache.nbytes,
            }

    def close(self) -> None:
        """Refuse new requests, fail the others, and stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._running or self._closing)
                if self._closing:
                    break
                self._drop_cancelled()
                self._admit()
            self._prefill_one()
            self._decode()
            self._release()
        for sequence in (*self._running, *self._waiting):
            sequence.fail(Unavailable("the language model is shutting down"))

    def _drop_cancelled(self) -> None:
        for sequence in (*self._waiting, *self._running):
            if sequence.cancelled:
                self._fail(sequence, Cancelled("the request was cancelled"))
        self._waiting = deque(sequence for sequence in self._waiting if not sequence.done)
        self._release_done()

    def _admit(self) -> None:
        while self._waiting and self._free:
            sequence = self._waiting.popleft()
            # The lowest slot, because a decode step covers all rows up to the highest one in use.
            sequence.slot = min(self._free)
            self._free.remove(sequence.slot)
            self._running.append(sequence)

    def _prefill_one(self) -> None:
        sequence = next((s for s in self._running if not s.prefilled), None)
        if sequence is None:
            return
        ids = sequence.generation.prompt.ids
        end = min(sequence.computed + self._prefill_chunk, len(ids))
        try:
            hidden = self._runner.prefill(sequence.slot, list(ids[sequence.computed : end]), sequence.computed)
            sequence.computed = end
            if sequence.prefilled:
                sequence.accept(self._runner.choose(hidden, [sequence])[0])
        except Exception as error:
            self._fail(sequence, error)

    def _decode(self) -> None:
        batch = [s for s in self._running if s.generated and not s.done]
        if not batch:
            return
        try:
            chosen = self._runner.decode(batch)
        except Exception as error:
            for sequence in batch:
                self._fail(sequence, error)
            return
        for sequence, token in zip(batch, chosen, strict=True):
            try:
                sequence.accept(token)
            except Exception as error:
                self._fail(sequence, error)

    def _release(self) -> None:
        with self._changed:
            self._release_done()

    def _release_done(self) -> None:
        self._free += [sequence.slot for sequence in self._running if sequence.done]
        self._running = [sequence for sequence in self._running if not sequence.done]

    @staticmethod
    def _fail(sequence: Sequence, error: Exception) -> None:
        if not isinstance(error, RequestError):
            log.exception("a request failed", exc_info=error)
        try:
            sequence.fail(error)
        except Exception:
            log.exception("an error could not be delivered")
