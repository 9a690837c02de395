"""What Triton loads as `backends/onnxruntime/model.py`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from python_backend.errors import InvalidInput, RequestError
from python_backend.onnxruntime_backend import config as configuration
from python_backend.onnxruntime_backend.batching import Request, Tensors, run_batch
from python_backend.onnxruntime_backend.session import open_session
from python_backend.serving import error_response, response


class TritonPythonModel:
    """Serves one ONNX file with the onnxruntime package."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open and check the model file."""
        try:
            self.config = configuration.read(json.loads(args["model_config"]))
            directory = Path(args["model_repository"]) / args["model_version"]
            device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
            self.session = open_session(self.config, directory, device=device)
        except configuration.ConfigError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self.scalars = {node.name for node in self.session.get_inputs() if not node.shape}
        self.dims = {tensor.name: tensor.dims for tensor in self.config.outputs}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch that Triton's dynamic batcher put together."""
        read = [self._read(request) for request in requests]
        good = [request for request in read if isinstance(request, Request)]
        answers = iter(run_batch(self._run, good, batched=self.config.batched))
        return [_response(next(answers) if isinstance(request, Request) else request) for request in read]

    def _read(self, request: Any) -> Request | RequestError:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        try:
            # Triton itself overlooks a missing input as soon as an optional one is given.
            for tensor in self.config.inputs:
                if not tensor.optional and tensor.name not in tensors:
                    raise InvalidInput(tensor.name, "missing")
            inputs = {name: self._input(name, value) for name, value in tensors.items()}
        except InvalidInput as error:
            return error
        return Request(inputs, tuple(request.requested_output_names()))

    def _input(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        if value.dtype == np.object_:
            try:
                value = np.array([item.decode() for item in value.reshape(-1)], dtype=object).reshape(value.shape)
            except UnicodeDecodeError as error:
                raise InvalidInput(name, "is not valid UTF-8") from error
        return value.reshape(()) if name in self.scalars else value

    def _run(self, names: list[str], inputs: Tensors) -> list[NDArray[Any]]:
        try:
            outputs = [np.asarray(value) for value in self.session.run(names, inputs)]
        except Exception as error:  # ONNX Runtime's exception classes share no base of their own
            raise RequestError(f"onnx runtime error: {error}") from error
        return [
            value if value.shape else value.reshape(self.dims[name]) for name, value in zip(names, outputs, strict=True)
        ]


def _response(answer: Tensors | Exception) -> Any:
    if isinstance(answer, Exception):
        return error_response(answer)
    return response({name: value.astype(str) if value.dtype == np.object_ else value for name, value in answer.items()})
