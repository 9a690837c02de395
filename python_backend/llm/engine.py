"""The engine: one thread that takes requests into the batch and out of it between any two steps."""

import logging
import threading
from collections.abc import Callable

from python_backend.errors import RequestError, Unavailable
from python_backend.llm.cancellation import EarlyCancellations
from python_backend.llm.measures import Measures
from python_backend.llm.prefill import Prefiller
from python_backend.llm.prefix_cache import PrefixCache
from python_backend.llm.request import Emit, Generation
from python_backend.llm.runner import Runner
from python_backend.llm.scheduler import Scheduler
from python_backend.llm.sequence import Sequence

log = logging.getLogger(__name__)

STOPPED = "the language model has stopped"


class Engine:
    """Runs generations on one model, as many at once as the cache has slots.

    Each turn of its loop drops what was cancelled or is too late, fills free slots from the queue, computes one chunk
    of one prompt, and takes one decode step for everything that runs. Events are emitted on the engine's thread, so a
    receiver must only pass them on.

    Args:
        max_queue: requests that may wait for a slot; further ones are refused.
        prefill_chunk: prompt ids computed per turn, the longest pause a running stream sees.
        prefix_bytes: memory for prompt beginnings that come again.

    Attributes:
        on_broken: called on the engine's thread when it cannot go on, a lost device say, after everybody has been told.
    """

    def __init__(self, runner: Runner, max_queue: int = 64, prefill_chunk: int = 256, prefix_bytes: int = 0):
        self._runner = runner
        self._prefixes = PrefixCache(runner.cache, prefix_bytes)
        self._prefiller = Prefiller(runner, self._prefixes, prefill_chunk)
        self._scheduler = Scheduler(runner.cache.slots, max_queue)
        self._early = EarlyCancellations()
        self._changed = threading.Condition()  # guards the scheduler and the early cancellations
        self._closing = False
        self.on_broken: Callable[[], None] = lambda: None
        self.measures = Measures()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation, emit: Emit) -> Sequence:
        """Queue a generation; its events, the last one `Finished` or `Failed`, go to `emit`.

        Raises:
            Unavailable: the queue is full, or the engine has stopped.
        """
        sequence = Sequence(generation, self.measures.watch(emit))
        with self._changed:
            if self._closing:
                raise Unavailable(STOPPED)
            self._scheduler.add(sequence)
            sequence.cancelled = self._early.take(generation.cancel_id)
            self._changed.notify()
        return sequence

    def cancel(self, cancel_id: str) -> bool:
        """Drop the requests named `cancel_id` before their next step; if there is none yet, the next to come.

        Returns:
            Whether there was one.
        """
        with self._changed:
            found = self._scheduler.named(cancel_id)
            for sequence in found:
                sequence.cancel()
            if not found:
                self._early.remember(cancel_id)
            self._changed.notify()
        return bool(found)

    def stats(self) -> dict[str, int]:
        """Return what the engine holds and has done, by name."""
        cache = self._runner.cache
        with self._changed:
            waiting, running = len(self._scheduler.waiting), len(self._scheduler.running)
        return {
            "waiting": waiting,
            "running": running,
            "slots": cache.slots,
            "context": cache.capacity,
            "kv_bytes": cache.nbytes,
            "prefix_bytes": self._prefixes.nbytes,
            "prefix_hits": self._prefixes.hits,
            "prefix_misses": self._prefixes.misses,
            "tokens": self.measures.tokens,
        }

    def close(self) -> None:
        """Refuse new requests, fail the others, and stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        broken = False
        try:
            self._loop()
        except Exception:  # nobody may wait for an answer that cannot come
            log.exception("the engine has failed")
            broken = True
        with self._changed:
            self._closing = True
            left = (*self._scheduler.running, *self._scheduler.waiting)
        for sequence in left:
            self._fail(sequence, Unavailable(STOPPED))
        if broken:
            self.on_broken()

    def _loop(self) -> None:
        scheduler = self._scheduler
        while True:
            with self._changed:
                self._changed.wait_for(lambda: scheduler.waiting or scheduler.running or self._closing)
                if self._closing:
                    return
                lost = scheduler.lost()
            for sequence, error in lost:
                self._fail(sequence, error)
            with self._changed:
                scheduler.release()
                scheduler.admit()
            self._prefill_one()
            self._decode()
            with self._changed:
                scheduler.release()

    def _prefill_one(self) -> None:
        sequence = next((s for s in self._scheduler.running if not s.prefilled), None)
        if sequence is not None:
            try:
                self._prefiller.advance(sequence)
            except Exception as error:
                self._fail_running(sequence, error)

    def _decode(self) -> None:
        batch = [sequence for sequence in self._scheduler.running if sequence.generated and not sequence.done]
        if not batch:
            return
        try:
            chosen = self._runner.decode(batch)
        except Exception as error:
            for sequence in batch:
                self._fail_running(sequence, error)
            return
        for sequence, token in zip(batch, chosen, strict=True):
            try:
                sequence.accept(token)
            except Exception as error:
                self._fail_running(sequence, error)

    def _fail_running(self, sequence: Sequence, error: Exception) -> None:
        self._fail(sequence, error)
        self._runner.clear(sequence.slot)

    @staticmethod
    def _fail(sequence: Sequence, error: Exception) -> None:
        if not isinstance(error, RequestError):
            log.exception("a request failed", exc_info=error)
        try:
            sequence.fail(error)
        except Exception:
            log.exception("an error could not be delivered")
