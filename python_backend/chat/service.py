"""The chat model as a Triton model: conversations in, answers out as they are written."""

import json
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from python_backend.chat.description import Description
from python_backend.chat.engine import Engine, Progress
from python_backend.chat.prompt import Prompter
from python_backend.chat.request import parse
from python_backend.chat.text import TextStream
from python_backend.errors import InvalidInput
from python_backend.serving import Inputs
from python_backend.streaming.reply import Reply

log = logging.getLogger(__name__)

READERS = 2
"""Threads that read requests: a long conversation takes a while to tokenize, and short ones are not to wait for it."""


class ChatModel:
    """Reads requests, and turns the engine's tokens into text for their callers.

    Args:
        directory: the checkpoint, and `description.json`.
        parameters: the model's `parameters` in `config.pbtxt`.
    """

    def __init__(self, directory: Path, parameters: dict[str, str]):
        self._description = Description.load(directory)
        self._waiting: dict[str, Reply] = {}
        self._engine = Engine(directory, parameters, self._drop_the_gone)
        self._prompter = Prompter(directory)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._warm_up()

    def enqueue(self, request: Any) -> None:
        """Take one Triton request; its answer leaves later."""
        reply = Reply(request)
        try:
            self._readers.submit(self._take, Inputs(request), reply)
        except Exception as error:
            reply.fail(error)

    def close(self) -> None:
        """Fail what still runs and stop."""
        self._readers.shutdown()
        self._engine.close()

    def _take(self, inputs: Inputs, reply: Reply) -> None:
        try:
            self._answer(inputs, reply)
        except Exception as error:
            reply.fail(error)

    def _answer(self, inputs: Inputs, reply: Reply) -> None:
        operation = inputs.text("op")
        if operation is not None:
            reply.finish({"description": np.array([self._operate(operation)])})
            return
        request = parse(inputs, self._engine.defaults)
        prompt = self._prompter.encode(request.messages)
        room = self._engine.context - len(prompt)
        if room < 1:
            raise InvalidInput("messages", f"have {len(prompt)} tokens, the model takes {self._engine.context - 1}")
        name = uuid.uuid4().hex
        stream = TextStream(self._prompter.backend, request.stop)
        written = 0

        def emit(progress: Progress) -> None:
            nonlocal written
            written += len(progress.tokens)
            try:
                ended = _tell(reply, stream, progress, (len(prompt), written))
            except Exception:
                log.exception("an answer could not be sent")
                ended = True
            if ended:
                self._waiting.pop(name, None)
                self._engine.cancel(name)  # a stop text ends an answer that the engine would go on with

        self._waiting[name] = reply
        try:
            self._engine.submit(name, prompt, request.sampling, min(request.max_tokens or room, room), emit)
        except BaseException:
            self._waiting.pop(name, None)
            raise

    def _operate(self, operation: str) -> str:
        if operation == "describe":
            return json.dumps(asdict(self._description) | {"context": self._engine.context})
        if operation == "stats":
            return json.dumps({"under_way": self._engine.under_way})
        raise InvalidInput("op", f"unknown operation {operation!r}, must be describe or stats")

    def _drop_the_gone(self) -> None:
        for name, reply in list(self._waiting.items()):
            if reply.is_gone():
                self._engine.cancel(name)
                self._waiting.pop(name, None)
                reply.finish({"finish_reason": np.array(["cancelled"])})

    def _warm_up(self) -> None:
        # The first steps allocate; no caller should wait for them.
        done = threading.Event()
        failures: list[Exception] = []

        def emit(progress: Progress) -> None:
            if progress.error is not None:
                failures.append(progress.error)
            if progress.error is not None or progress.finish_reason is not None:
                done.set()

        prompt = self._prompter.encode([{"role": "user", "content": "hi"}])
        self._engine.submit("warm up", prompt, self._engine.defaults, 4, emit)
        done.wait()
        if failures:
            raise failures[0]


def _tell(reply: Reply, stream: TextStream, progress: Progress, usage: tuple[int, int]) -> bool:
    """Send what came of a request and tell whether that was its end."""
    if progress.error is not None:
        reply.fail(progress.error)
        return True
    text = stream.feed(progress.tokens)
    reason = "stop" if stream.stopped else progress.finish_reason
    for piece in (text, "" if reason is None else stream.finish()):
        if piece:
            reply.send({"text": np.array([piece])})
    if reason is not None:
        reply.finish({"finish_reason": np.array([reason]), "usage": np.array(usage, dtype=np.int32)})
    return reason is not None
