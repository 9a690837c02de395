"""The way back to the caller of a decoupled model."""

import json
import threading
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from python_backend import error_text, serving
from python_backend.serving import Outputs

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class Reply:
    """Sends the responses of one request.

    With the request parameter `error_output`, an error is an ordinary last response with the outputs `finish_reason` =
    `error` and `error`: Triton gives no code to callers over a gRPC stream, and to calling models not even the message.

    Args:
        request: of Triton.
    """

    def __init__(self, request: Any):
        self.parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
        self._sender, self._wanted, _ = serving.reply_of(request)
        self._started = self._ended = False
        self._lock = threading.Lock()

    def is_gone(self) -> bool:
        """Tell whether the caller has cancelled; afterwards, nobody knows."""
        with self._lock:
            # Asking about a request that has had its last response would crash tritonserver 2.51.
            return not self._ended and bool(self._sender.is_cancelled())

    def send(self, outputs: Outputs) -> None:
        """Send a response that is not the last one."""
        self._started = True
        self._sender.send(serving.response(outputs, self._wanted))

    def finish(self, outputs: Outputs) -> None:
        """Send the last response."""
        self._end(serving.response(outputs, self._wanted))

    def fail(self, error: BaseException) -> None:
        """Send an error as the last response."""
        answer = serving.error_response(error)
        if self.parameters.get("error_output"):
            self.finish({"finish_reason": np.array(["error"]), "error": np.array([error_text.to_text(error)])})
        elif self._started:
            # Triton 2.51 overlooks the flag on an error that follows other responses, and can then never unload the
            # model; on an error that comes first, it is the flag sent by itself that it overlooks.
            try:
                self._sender.send(answer)
            finally:
                # Nor does it always see a flag that comes alone.
                self._end(serving.response({"finish_reason": np.array(["error"])}, self._wanted))
        else:
            self._end(answer)

    def _end(self, *answer: Any) -> None:
        with self._lock:
            self._ended = True
            self._sender.send(*answer, flags=FINAL)
