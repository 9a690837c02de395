"""The way back to the caller of a decoupled model."""

import json
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
        self._started = False

    @property
    def is_gone(self) -> bool:
        """Whether the caller has cancelled."""
        return bool(self._sender.is_cancelled())

    def send(self, outputs: Outputs) -> None:
        """Send a response that is not the last one."""
        self._started = True
        self._sender.send(serving.response(outputs, self._wanted))

    def finish(self, outputs: Outputs) -> None:
        """Send the last response."""
        self._sender.send(serving.response(outputs, self._wanted), flags=FINAL)

    def fail(self, error: BaseException) -> None:
        """Send an error as the last response."""
        answer = serving.error_response(error)
        if self.parameters.get("error_output"):
            self.finish({"finish_reason": np.array(["error"]), "error": np.array([error_text.to_text(error)])})
        elif self._started:
            # Triton 2.51 overlooks the flag on an error that follows other responses, and can then never unload the
            # model; on an error that comes first, it is the flag sent by itself that it overlooks.
            self._sender.send(answer)
            self._sender.send(flags=FINAL)
        else:
            self._sender.send(answer, flags=FINAL)
