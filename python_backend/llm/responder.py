"""Sends the engine's events to Triton's callers, and tells the engine which callers have gone."""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from python_backend import error_text, serving
from python_backend.llm.request import Event, Failed, Tokens
from python_backend.serving import Outputs

log = logging.getLogger(__name__)

CANCEL_POLL_SECONDS = 0.05


class Channel:
    """The way back to one caller; may be written to from any thread.

    Triton 2.51 loses errors on the way to a model that called this one: the code always, and all of it once a response
    has gone out. So such callers ask, by request parameters, for the forms below.

    Args:
        collect: send one response with all tokens instead of a stream (request parameter `collect`).
        error_output: send an error as the outputs `finish_reason` = `error` and `error` (parameter `error_output`).
        wanted: outputs the caller asked for.
    """

    def __init__(
        self,
        outbox: "queue.SimpleQueue[_Item | None]",
        sender: Any,
        collect: bool,
        error_output: bool,
        wanted: frozenset[str],
    ):
        self._outbox = outbox
        self._collect = collect
        self._error_output = error_output
        self._tokens: list[int] = []
        self._on_gone: Callable[[], None] | None = None
        self._gone = False
        self.sender = sender
        self.wanted = wanted
        self.started = False  # a response has been sent

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call `on_gone` when the caller has gone; at once if it went before. It may be called twice."""
        self._on_gone = on_gone
        if self._gone:
            on_gone()

    def leave(self) -> None:
        """Note that the caller has gone."""
        self._gone = True
        if self._on_gone is not None:
            self._on_gone()

    def emit(self, event: Event) -> None:
        """Send one event of the engine; the last one closes the channel."""
        if isinstance(event, Tokens):
            if self._collect:
                self._tokens += event.tokens
            else:
                self._outbox.put((self, {"tokens": np.array(event.tokens, dtype=np.int32)}, False))
        elif isinstance(event, Failed):
            self.fail(event.error)
        else:
            self.finish(event.reason, event.usage, event.stage_ms)

    def finish(
        self,
        reason: str,
        usage: tuple[int, int] = (0, 0),
        stage_ms: tuple[float, float] = (0, 0),
        further: Outputs | None = None,
    ) -> None:
        """Send the last response; in a stream it carries no tokens."""
        outputs = {
            "tokens": np.array(self._tokens, dtype=np.int32),
            "finish_reason": np.array([reason]),
            "usage": np.array(usage, dtype=np.int32),
            "stage_ms": np.array(stage_ms, dtype=np.float32),
            **(further or {}),
        }
        self._outbox.put((self, outputs, True))

    def fail(self, error: Exception) -> None:
        """Send an error as the last response."""
        if self._error_output:
            self._tokens = []
            self.finish("error", further={"error": np.array([error_text.to_text(error)])})
        else:
            self._outbox.put((self, error, True))


_Item = tuple[Channel, Outputs | Exception, bool]


class Responder:
    """One thread that sends: a send takes about 160 µs, which the engine's steps should not wait for."""

    def __init__(self) -> None:
        self._outbox: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._live: set[Channel] = set()
        self._thread = threading.Thread(target=self._run, name="responder", daemon=True)
        self._thread.start()

    def open(self, request: Any) -> Channel:
        """Return the channel of a Triton request."""
        parameters = json.loads(request.parameters() or "{}")
        forms = (bool(parameters.get("collect")), bool(parameters.get("error_output")))
        channel = Channel(self._outbox, request.get_response_sender(), *forms, wanted=serving.wanted_outputs(request))
        self._live.add(channel)
        return channel

    def close(self) -> None:
        """Send what is queued and stop."""
        self._outbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        next_poll = 0.0
        while True:
            try:
                item = self._outbox.get(timeout=CANCEL_POLL_SECONDS)
            except queue.Empty:
                pass
            else:
                if item is None:
                    return
                self._send(*item)
            if time.monotonic() >= next_poll:
                self._poll()
                next_poll = time.monotonic() + CANCEL_POLL_SECONDS

    def _send(self, channel: Channel, answer: Outputs | Exception, last: bool) -> None:
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        if last:
            self._live.discard(channel)
        try:
            made = (
                serving.error_response(answer)
                if isinstance(answer, Exception)
                else serving.response(answer, channel.wanted)
            )
            if isinstance(answer, Exception) and channel.started:
                # Triton 2.51 overlooks the flag on an error that follows other responses, and can then never unload the
                # model; on an error that comes first, it is the flag sent by itself that it overlooks.
                channel.sender.send(made)
                channel.sender.send(flags=flags)
            else:
                channel.sender.send(made, flags=flags)
            channel.started = True
        except Exception:
            log.exception("a response could not be sent")
            channel.leave()

    def _poll(self) -> None:
        for channel in list(self._live):
            if channel.sender.is_cancelled():
                self._live.discard(channel)
                channel.leave()
