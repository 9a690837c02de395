"""The glue every Python model shares: checked inputs, answers from a pool of threads, errors that name the field.

Triton 2.51 passes a request on although a required input is missing as soon as an optional one is there, and never
checks outputs, so the models check for themselves.
"""

import json
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import DTypeLike, NDArray

from python_backend import error_text
from python_backend.errors import InvalidInput, RequestError

log = logging.getLogger(__name__)

# Request parameter of calls between models: errors begin with their code.
CODED_ERRORS = "coded_errors"

Outputs = Mapping[str, NDArray[Any]]


class Inputs:
    """Typed, checked access to the tensors of one request.

    It copies them out of Triton's shared memory at once: they may be gone when `execute` has returned.
    """

    def __init__(self, request: Any):
        self._tensors = {tensor.name(): np.array(tensor.as_numpy(), copy=True) for tensor in request.inputs()}
        self.request_id: str = request.request_id()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def chosen(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Return those of the tensors `names` that the request has, unchecked."""
        return {name: self._tensors[name] for name in names if name in self._tensors}

    def array(self, name: str, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Return the required tensor `name`; `None` in `shape` matches any size.

        Raises:
            InvalidInput: it is missing, of another dtype or shape, or holds a NaN or an infinity.
        """
        if name not in self._tensors:
            raise InvalidInput(name, "missing")
        value = self._tensors[name]
        if value.dtype != np.dtype(dtype):
            raise InvalidInput(name, f"must be {np.dtype(dtype).name}, is {value.dtype.name}")
        fits = len(value.shape) == len(shape) and all(w in (None, n) for w, n in zip(shape, value.shape, strict=True))
        if not fits:
            wanted = "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"
            raise InvalidInput(name, f"must have shape {wanted}, has {list(value.shape)}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InvalidInput(name, "holds NaN or infinite values")
        return value

    def scalar(self, name: str, dtype: DTypeLike, default: Any = None) -> Any:
        """Return the single value of tensor `name` ([1]), or `default` where the request leaves it out."""
        if name not in self._tensors:
            return default
        return self.array(name, dtype, (1,))[0].item()

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return BYTES tensor `name` ([1]) decoded as UTF-8, or `default` where the request leaves it out."""
        if name not in self._tensors:
            return default
        values = self._tensors[name]
        if values.size != 1:
            raise InvalidInput(name, f"must hold one string, holds {values.size}")
        try:
            return bytes(values.reshape(-1)[0]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(name, "is not valid UTF-8") from error


def wanted_outputs(request: Any) -> frozenset[str]:
    """Return the outputs that the caller asked for."""
    return frozenset(request.requested_output_names())


def response(outputs: Outputs, wanted: frozenset[str] | None = None) -> Any:
    """Make a Triton response of named arrays; a `str` array or scalar becomes BYTES.

    Args:
        wanted: outputs to keep, all by default. Triton 2.51 drops the others itself, but while another thread may run
            Python, which can corrupt the process's memory.
    """
    tensors = []
    for name, value in outputs.items():
        if wanted is not None and name not in wanted:
            continue
        if value.dtype.kind in "US":
            value = np.array([str(item).encode() for item in value.reshape(-1)], dtype=object).reshape(value.shape)
        tensors.append(pb_utils.Tensor(name, np.ascontiguousarray(value)))
    return pb_utils.InferenceResponse(tensors)


def error_response(error: BaseException, coded: bool = False) -> Any:
    """Make a Triton error response; anything but a `RequestError` is logged in full and reported without its trace.

    Args:
        coded: begin the message with the code, for a calling model, to which Triton 2.51 does not give it.
    """
    if not isinstance(error, RequestError):
        log.error("unexpected failure\n%s", "".join(traceback.format_exception(error)))
    text = error_text.to_text(error)
    code, _, message = text.partition(" ")
    raised = pb_utils.TritonError(text if coded else message, getattr(pb_utils.TritonError, code))
    return pb_utils.InferenceResponse(error=raised)


def reply_of(request: Any) -> tuple[Any, frozenset[str], bool]:
    """Return how to answer: the response sender, `wanted` of `response` and `coded` of `error_response`."""
    parameters = json.loads(request.parameters() or "{}")
    return request.get_response_sender(), wanted_outputs(request), bool(parameters.get(CODED_ERRORS))


class UnaryWorkers:
    """Answers each request of a non-decoupled model from a pool of threads, so that `execute` never blocks.

    Args:
        answer: computes the outputs of one request.
        workers: requests answered at once; further ones wait in the pool's queue.
    """

    def __init__(self, answer: Callable[[Inputs], Outputs], workers: int):
        self._answer = answer
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="request")

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to the pool; the answers leave later through their response senders."""
        for request in requests:
            sender, wanted, coded = reply_of(request)
            try:
                self._pool.submit(self._run, Inputs(request), wanted, sender, coded)
            except Exception as error:
                self._send(sender, error_response(error, coded))

    def close(self) -> None:
        """Wait for the requests under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, inputs: Inputs, wanted: frozenset[str], sender: Any, coded: bool) -> None:
        try:
            answer = response(self._answer(inputs), wanted)
        except BaseException as error:
            answer = error_response(error, coded)
        self._send(sender, answer)

    @staticmethod
    def _send(sender: Any, answer: Any) -> None:
        sender.send(answer, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def request_to(
    model: str, inputs: Outputs, outputs: list[str], request_id: str = "", parameters: Mapping[str, Any] | None = None
) -> Any:
    """Make a request to another model of this server; `parameters` may be bool, int or str."""
    return pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=outputs,
        inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        request_id=request_id,
        parameters=dict(parameters or {}),
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )


def call(
    model: str, inputs: Outputs, outputs: list[str], request_id: str = "", parameters: Mapping[str, Any] | None = None
) -> dict[str, NDArray[Any]]:
    """Run another model of this server and return its outputs by name.

    Raises:
        RequestError: the other model refused or failed; the message keeps its words and names it.
    """
    answer = request_to(model, inputs, outputs, request_id, {CODED_ERRORS: True, **(parameters or {})}).exec()
    if answer.has_error():
        raise called_model_error(model, answer.error())
    return {name: np.array(pb_utils.get_output_tensor_by_name(answer, name).as_numpy(), copy=True) for name in outputs}


def called_model_error(model: str, error: Any) -> RequestError:
    """Turn another model's Triton error into ours, with its code if it wrote that into the message."""
    raised = error_text.from_text(error.message())
    if raised.triton_code != "INTERNAL" or model in str(raised):
        return raised
    return RequestError(f"{model}: {raised}")
