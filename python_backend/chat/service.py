"""The chat model as a Triton model: conversations in, answers out as they are written."""

import json
import logging
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from python_backend import serving
from python_backend.chat.description import Description
from python_backend.chat.engine import Engine, Progress
from python_backend.chat.prompt import Prompter
from python_backend.chat.request import parse
from python_backend.chat.text import TextStream
from python_backend.errors import InvalidInput
from python_backend.serving import Inputs, Outputs

log = logging.getLogger(__name__)

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class Reply:
    """The way back to one caller: pieces of text, then one last response with `finish_reason` and `usage`."""

    def __init__(self, request: Any):
        self._sender = request.get_response_sender()
        self._wanted = serving.wanted_outputs(request)
        self._started = False

    @property
    def gone(self) -> bool:
        """Whether the caller has cancelled."""
        return bool(self._sender.is_cancelled())

    def write(self, text: str) -> None:
        """Send a piece of the answer, none where it is empty."""
        if text:
            self._started = True
            self._sender.send(serving.response({"text": np.array([text])}, self._wanted))

    def finish(self, outputs: Outputs) -> None:
        """Send the last response."""
        self._sender.send(serving.response(outputs, self._wanted), flags=FINAL)

    def fail(self, error: BaseException) -> None:
        """Send an error as the last response."""
        answer = serving.error_response(error)
        if self._started:
            # Triton 2.51 overlooks the flag on an error that follows other responses; and sent by itself after an error
            # that comes first.
            self._sender.send(answer)
            self._sender.send(flags=FINAL)
        else:
            self._sender.send(answer, flags=FINAL)


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
        self._warm_up()

    def enqueue(self, request: Any) -> None:
        """Take one Triton request; its answer leaves later."""
        reply = Reply(request)
        try:
            self._take(Inputs(request), reply)
        except Exception as error:
            reply.fail(error)

    def close(self) -> None:
        """Fail what still runs and stop."""
        self._engine.close()

    def _take(self, inputs: Inputs, reply: Reply) -> None:
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
                if progress.error is not None:
                    reply.fail(progress.error)
                    return
                reply.write(stream.feed(progress.tokens))
                reason = "stop" if stream.stopped else progress.finish_reason
                if reason is None:
                    return
                self._engine.cancel(name)  # a stop text ends an answer that the engine would go on with
                reply.write(stream.finish())
                usage = np.array([len(prompt), written], dtype=np.int32)
                reply.finish({"finish_reason": np.array([reason]), "usage": usage})
            except Exception:
                log.exception("an answer could not be sent")
                self._engine.cancel(name)
            self._waiting.pop(name, None)

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
            if reply.gone:
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
