"""The unary face of the decoupled engine: one answer per request, for ensembles and plain HTTP."""

import json
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from python_backend import error_text, serving
from python_backend.errors import Cancelled, RequestError, Unavailable
from python_backend.serving import Outputs
from python_backend.spent import SpentCalls

log = logging.getLogger(__name__)

# Triton 2.51 runs 32 calls to other models at once for one Python model and holds back the rest out of our sight, the
# cancellations among them: so fewer requests are collected at once, and operations have threads of their own.
COLLECTED_AT_ONCE = 28
OPERATIONS_AT_ONCE = 2
CANCEL_POLL_SECONDS = 0.05
OUTPUTS = ["tokens", "finish_reason", "usage", "stage_ms", "stats", "error"]


class UnaryFacade:
    """Asks the engine model for one collected answer per request.

    Triton does not pass a cancellation on to a model that another one calls, so a watcher turns it into the engine's
    cancel operation; requests without a `cancel_id` get one.

    Args:
        engine: name of the decoupled model.
        max_queue: requests that may wait here for one of the `COLLECTED_AT_ONCE`; further ones are refused.
    """

    def __init__(self, engine: str, max_queue: int):
        self._engine = engine
        self._limit = COLLECTED_AT_ONCE + max_queue
        self._requests = ThreadPoolExecutor(COLLECTED_AT_ONCE, thread_name_prefix="request")
        self._operations = ThreadPoolExecutor(OPERATIONS_AT_ONCE, thread_name_prefix="operation")
        self._lock = threading.Lock()
        self._live: dict[Any, str] = {}  # response sender → cancel_id
        self._spent = SpentCalls()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to the pool; the answers leave later through their response senders."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._enqueue(request, sender)
            except Exception as error:
                sender.send(serving.error_response(error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def close(self) -> None:
        """Wait for the requests under way."""
        self._closing.set()
        self._watcher.join()
        self._requests.shutdown(wait=True)
        self._operations.shutdown(wait=True)

    def _enqueue(self, request: Any, sender: Any) -> None:
        cancel_id = serving.Inputs(request).text("cancel_id") or uuid.uuid4().hex
        wanted = serving.wanted_outputs(request)
        inputs = {tensor.name(): np.array(tensor.as_numpy(), copy=True) for tensor in request.inputs()}
        if "op" in inputs:
            self._operations.submit(self._answer, inputs, sender, wanted, request.request_id(), {})
            return
        with self._lock:
            if len(self._live) >= self._limit:
                raise Unavailable(f"queue full: {len(self._live)} requests wait for the language model")
            self._live[sender] = cancel_id
        inputs["cancel_id"] = np.array([cancel_id.encode()], dtype=np.object_)
        parameters = json.loads(request.parameters() or "{}")
        self._requests.submit(self._answer, inputs, sender, wanted, request.request_id(), parameters)

    def _answer(
        self,
        inputs: dict[str, NDArray[Any]],
        sender: Any,
        wanted: frozenset[str],
        request_id: str,
        parameters: dict[str, Any],
    ) -> None:
        try:
            if sender.is_cancelled():
                raise Cancelled("the request was cancelled")
            answer = serving.response(self._collect(inputs, request_id, parameters), wanted)
        except Exception as error:
            answer = serving.error_response(error)
        with self._lock:
            self._live.pop(sender, None)
        sender.send(answer, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _collect(self, inputs: Outputs, request_id: str, parameters: dict[str, Any]) -> Outputs:
        parameters = {**parameters, "collect": True, "error_output": True}
        request = serving.request_to(self._engine, inputs, OUTPUTS, request_id, parameters)
        outputs: dict[str, NDArray[Any]] = {}
        pieces = request.exec(decoupled=True)
        try:
            for piece in pieces:  # one with the answer, and an empty one that ends the stream
                if piece.has_error():
                    raise serving.called_model_error(self._engine, piece.error())
                outputs |= {tensor.name(): np.array(tensor.as_numpy(), copy=True) for tensor in piece.output_tensors()}
        finally:
            self._spent.keep(pieces)
        if not outputs:
            raise RequestError(f"{self._engine} ended without an answer")
        if "error" in outputs:
            raise error_text.from_text(bytes(outputs["error"][0]).decode())
        return outputs

    def _watch(self) -> None:
        while not self._closing.wait(CANCEL_POLL_SECONDS):
            with self._lock:
                gone = [cancel_id for sender, cancel_id in self._live.items() if sender.is_cancelled()]
            for cancel_id in gone:
                self._cancel(cancel_id)

    def _cancel(self, cancel_id: str) -> None:
        names = {"op": "cancel", "cancel_id": cancel_id}
        try:
            self._collect({name: np.array([text.encode()], dtype=np.object_) for name, text in names.items()}, "", {})
        except RequestError:
            log.exception("a cancellation could not be passed on")
