"""Asking a running tritonserver about its models, and telling it to unload or load one."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The names of the types that the ensemble's inputs have, by the kind of their arrays.
DATATYPES = {"f": "FP32", "i": "INT32", "U": "BYTES"}


class TritonError(Exception):
    """Triton refused; the message is its own."""


class Control:
    """Triton's HTTP interface, one connection per call.

    A connection that stays open keeps tritonserver from exiting for its whole exit timeout, and this one is asked a
    handful of times only, so a client library would be no help.
    """

    def __init__(self, host: str, port: int):
        self._base = f"http://{host}:{port}/v2"

    def live(self) -> bool:
        """Tell whether the server answers."""
        return self._answers("/health/live")

    def ready(self, model: str) -> bool:
        """Tell whether `model` takes requests."""
        return self._answers(f"/models/{model}/ready")

    def state(self, model: str) -> str:
        """Return the model's state, `READY`, `UNLOADING`, `UNAVAILABLE` or `LOADING`; empty for an unknown model."""
        index = self._call("/repository/index", {})
        return next((entry.get("state", "") for entry in index if entry["name"] == model), "")

    def load(self, model: str, timeout: float) -> None:
        """Load `model` and, with it, the ensembles that wait for it; returns when it is ready."""
        self._call(f"/repository/models/{model}/load", {}, timeout)

    def unload(self, model: str) -> None:
        """Begin to unload `model`, which ends when the last request in it has been answered."""
        self._call(f"/repository/models/{model}/unload", {})

    def infer(self, model: str, inputs: Mapping[str, NDArray[Any]], timeout: float) -> dict[str, NDArray[Any]]:
        """Run one request and return all outputs: numbers and strings, as JSON has them.

        Raises:
            TritonError: the request failed.
        """
        body = {
            "inputs": [
                {"name": name, "datatype": DATATYPES[value.dtype.kind], "shape": value.shape, "data": value.tolist()}
                for name, value in inputs.items()
            ]
        }
        answer = self._call(f"/models/{model}/infer", body, timeout)
        return {entry["name"]: np.array(entry["data"]).reshape(entry["shape"]) for entry in answer["outputs"]}

    def stream(
        self, model: str, inputs: Mapping[str, NDArray[Any]], timeout: float
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Run one request of a decoupled model and yield its responses, those outputs that a response has.

        Raises:
            TritonError: the request failed, perhaps after some responses.
        """
        body = {name: value.tolist() for name, value in inputs.items()}
        request = self._post(f"/models/{model}/generate_stream", body)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                for line in answer:
                    if line.startswith(b"data:"):
                        event = json.loads(line.removeprefix(b"data:"))
                        if "error" in event:
                            raise TritonError(str(event["error"]))
                        yield {name: np.array(value) for name, value in event.items()}
        except urllib.error.HTTPError as error:
            raise TritonError(_message(error.read())) from error
        except OSError as error:
            raise TritonError(f"no answer from tritonserver: {error}") from error

    def _answers(self, path: str) -> bool:
        try:
            self._open(urllib.request.Request(self._base + path), timeout=2)  # noqa: S310 - http only
        except OSError:
            return False
        return True

    def _call(self, path: str, body: Any, timeout: float = 10.0) -> Any:
        request = self._post(path, body)
        try:
            return json.loads(self._open(request, timeout) or b"null")
        except urllib.error.HTTPError as error:
            raise TritonError(_message(error.read())) from error
        except OSError as error:
            raise TritonError(f"no answer from tritonserver: {error}") from error

    def _post(self, path: str, body: Any) -> urllib.request.Request:
        return urllib.request.Request(self._base + path, data=json.dumps(body).encode(), method="POST")  # noqa: S310

    @staticmethod
    def _open(request: urllib.request.Request, timeout: float) -> bytes:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - http only
            content: bytes = answer.read()
        return content


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")
