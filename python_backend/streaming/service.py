"""The streamed path as a Triton model: admission, cancellation, and a thread for every stream."""

import gc
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from python_backend.errors import InvalidInput, Unavailable
from python_backend.llm.cancellation import EarlyCancellations
from python_backend.memory import give_back
from python_backend.serving import Inputs
from python_backend.spent import SpentCalls
from python_backend.streaming.reply import Reply
from python_backend.streaming.session import Session
from python_backend.streaming.stages import TritonStages, is_loaded, llm_of

log = logging.getLogger(__name__)

VARIANT = re.compile(r"[a-z0-9_]{1,32}")
CANCEL_POLL_SECONDS = 0.02
TIDY_SECONDS = 2.5  # without a stream; by then finished calls can be let go of


@dataclass(eq=False)
class _Live:
    session: Session
    reply: Reply
    cancel_id: str


class SpeechStreams:
    """Runs streamed requests.

    Args:
        parameters: the model's `parameters` in `config.pbtxt`.
    """

    def __init__(self, parameters: dict[str, str]):
        self._max_streams = int(parameters["max_streams"])
        self._idle_seconds = float(parameters["idle_seconds"])
        self._streams = ThreadPoolExecutor(self._max_streams, thread_name_prefix="stream")
        self._readers = ThreadPoolExecutor(self._max_streams, thread_name_prefix="reader")
        self._cancellers = ThreadPoolExecutor(self._max_streams, thread_name_prefix="canceller")
        self._spent = SpentCalls()
        self._early = EarlyCancellations()
        self._lock = threading.Lock()
        self._live: set[_Live] = set()
        self._variants: set[str] = set()  # known to be loaded: asking takes as long as another call
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def enqueue(self, request: Any) -> None:
        """Take one Triton request; its answers leave later."""
        reply = Reply(request)
        try:
            inputs = Inputs(request)
            op = inputs.text("op")
            if op is None:
                self._open(inputs, reply)
            elif op == "cancel":
                self._cancel(inputs, reply)
            else:
                raise InvalidInput("op", f"unknown operation {op!r}, must be cancel")
        except Exception as error:
            reply.fail(error)

    def close(self) -> None:
        """Wait for the streams under way."""
        self._streams.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._closing.set()
        self._watcher.join()
        self._cancellers.shutdown(wait=True)

    def _open(self, inputs: Inputs, reply: Reply) -> None:
        variant = inputs.text("variant", "base") or ""
        self._check_variant(variant)
        cancel_id = inputs.text("cancel_id", "") or ""
        stages = TritonStages(inputs, llm_of(variant), reply.parameters, self._spent)
        seed = inputs.scalar("seed", np.int64, 0)
        session = Session(stages, seed, self._readers.submit, lambda: len(self._live), self._idle_seconds)
        live = _Live(session, reply, cancel_id)
        with self._lock:
            if len(self._live) >= self._max_streams:
                raise Unavailable(f"queue full: {len(self._live)} streams run, the limit is {self._max_streams}")
            self._live.add(live)
            cancelled = bool(cancel_id) and self._early.take(cancel_id)
        if cancelled:
            session.cancel()
        self._streams.submit(self._run, live)

    def _check_variant(self, variant: str) -> None:
        if variant not in self._variants:
            if not VARIANT.fullmatch(variant) or not is_loaded(llm_of(variant)):
                raise InvalidInput("variant", f"{variant!r} is not loaded")
            self._variants.add(variant)

    def _run(self, live: _Live) -> None:
        try:
            try:
                for waveform in live.session.waveforms():
                    live.reply.send({"waveform": waveform, "cache_hit": live.session.cache_hit})
            finally:
                # First, so that whoever has the last response finds everything freed.
                self._free(live)
            live.reply.finish({"waveform": np.empty(0, dtype=np.float32), **live.session.account})
        except Exception as error:
            live.reply.fail(error)

    def _free(self, live: _Live) -> None:
        with self._lock:
            self._live.discard(live)
        try:
            live.session.close()
        except Exception:
            log.exception("a stream's state could not be freed")

    def _cancel(self, inputs: Inputs, reply: Reply) -> None:
        cancel_id = inputs.text("cancel_id")
        if not cancel_id:
            raise InvalidInput("cancel_id", "missing, op cancel needs it")
        with self._lock:
            found = [live for live in self._live if live.cancel_id == cancel_id]
            if not found:
                self._early.remember(cancel_id)
        for live in found:
            self._cancellers.submit(self._end, live)
        reply.finish({"finish_reason": np.array(["cancelled" if found else "unknown"])})

    def _end(self, live: _Live) -> None:
        try:
            live.session.cancel()
        except Exception:
            log.exception("a cancellation could not be passed on")

    def _watch(self) -> None:
        known: set[_Live] = set()
        most_live = idle_polls = 0
        while not self._closing.wait(CANCEL_POLL_SECONDS):
            with self._lock:
                live = set(self._live)
            known &= live
            for gone in (each for each in live - known if each.reply.is_gone()):
                known.add(gone)
                self._cancellers.submit(self._end, gone)
            most_live = max(most_live, len(live))
            idle_polls = 0 if live else idle_polls + 1
            if most_live and idle_polls * CANCEL_POLL_SECONDS > TIDY_SECONDS:
                self._spent.let_go()
                gc.collect()  # an error and the frames it came through refer to each other, and to a session
                give_back()
                most_live = 0
