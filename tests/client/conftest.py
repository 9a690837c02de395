"""A stand-in for Triton: speaks its gRPC protocol, sings instead of speaking, and remembers what it was asked."""

import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

SECONDS = 0.25
PARTS = 5
TONE = (0.5 * np.sin(2 * np.pi * 300 * np.arange(int(SECONDS * 24_000)) / 24_000)).astype(np.float32)
ACCOUNT = {
    "finish_reason": np.array([b"stop"], dtype=object),
    "usage": np.array([11, 22], np.int32),
    "voice_ms": np.array([1, 2, 3, 4], np.float32),
    "llm_ms": np.array([5, 6], np.float32),
    "flow_ms": np.array([7, 8], np.float32),
}


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    url: str = ""
    loaded: tuple[str, ...] = ("step_audio_editx_base",)
    failure: tuple[grpc.StatusCode, str] | None = None
    fails_late: bool = False
    voice_key: str = ""
    forgets: tuple[grpc.StatusCode, str] | None = None
    states: dict[str, tuple[str, str]] = field(default_factory=dict)
    moved: list[tuple[str, str]] = field(default_factory=list)
    unloads_within: int = 0
    complete: bool = True
    hold: threading.Event | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    withdrawn: threading.Event = field(default_factory=threading.Event)
    stream_ended: threading.Event = field(default_factory=threading.Event)

    def ModelReady(self, request: Any, _: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=request.name in self.loaded)

    def RepositoryIndex(self, *_: Any) -> Any:  # noqa: N802
        if self.unloads_within > 0:
            self.unloads_within -= 1
        elif any(state == "UNLOADING" for state, _ in self.states.values()):
            self.states = {
                name: ("UNAVAILABLE", "unloaded") if state == "UNLOADING" else (state, reason)
                for name, (state, reason) in self.states.items()
            }
        answer = service_pb2.RepositoryIndexResponse()
        for name, (state, reason) in self.states.items():
            answer.models.add(name=name, version="1", state=state, reason=reason)
        return answer

    def RepositoryModelUnload(self, request: Any, _: Any) -> Any:  # noqa: N802
        self.moved.append(("unload", request.model_name))
        self.states[request.model_name] = ("UNLOADING", "")
        self.loaded = tuple(name for name in self.loaded if name != request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()

    def RepositoryModelLoad(self, request: Any, _: Any) -> Any:  # noqa: N802
        self.moved.append(("load", request.model_name))
        self.states[request.model_name] = ("READY", "")
        self.loaded = (*self.loaded, request.model_name)
        return service_pb2.RepositoryModelLoadResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = dict(map(_read, request.inputs, request.raw_input_contents))
        self.asked.append((request.model_name, inputs))
        self.arrived.set()
        if inputs.get("op") == "cancel":
            self.withdrawn.set()
            return service_pb2.ModelInferResponse()
        if self.hold:
            self.hold.wait(20)
        if self.failure:
            context.abort(*self.failure)
        if self.forgets and "voice_key" in inputs:
            context.abort(*self.forgets)
        return _answer(request, {"waveform": TONE, **self._account(inputs)})

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        (request,) = requests
        inputs = dict(map(_read, request.inputs, request.raw_input_contents))
        self.asked.append((request.model_name, inputs))
        context.add_callback(self.stream_ended.set)
        if self.forgets and "voice_key" in inputs:
            yield service_pb2.ModelStreamInferResponse(error_message=self.forgets[1])
            return
        if self.failure is None:
            answers = [{"waveform": part} for part in np.split(TONE, PARTS)]
            answers += [self._account(inputs) | {"vocoder_ms": np.array([9], np.float32)}] if self.complete else []
        else:
            answers = [{"waveform": TONE}] if self.fails_late else []
        for answer in answers:
            yield service_pb2.ModelStreamInferResponse(infer_response=_answer(request, answer))
            self.arrived.set()
            if self.hold:
                self.hold.wait(20)
        if self.failure:
            # As Triton 2.51: the words without the status.
            yield service_pb2.ModelStreamInferResponse(error_message=self.failure[1])

    def _account(self, inputs: dict[str, Any]) -> dict[str, Any]:
        kept = np.array([self.voice_key.encode()], dtype=object)
        return ACCOUNT | {"kept_voice_key": kept, "cache_hit": np.array(["voice_key" in inputs])}


def _answer(request: Any, outputs: dict[str, Any]) -> Any:
    answer = service_pb2.ModelInferResponse(model_name=request.model_name)
    for wanted in request.outputs:
        if wanted.name not in outputs:
            continue
        value = outputs[wanted.name]
        datatype = {"f": "FP32", "i": "INT32", "O": "BYTES", "b": "BOOL"}[value.dtype.kind]
        answer.outputs.add(name=wanted.name, datatype=datatype, shape=value.shape)
        raw = serialize_byte_tensor(value).item() if datatype == "BYTES" else value.tobytes()
        answer.raw_output_contents.append(raw)
    return answer


def _read(tensor: Any, raw: bytes) -> tuple[str, Any]:
    if tensor.datatype == "BYTES":
        return tensor.name, deserialize_bytes_tensor(raw)[0].decode()
    value = np.frombuffer(raw, triton_to_np_dtype(tensor.datatype)).reshape(tuple(tensor.shape))
    return tensor.name, value if tensor.name == "audio" else value[0].item()


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    fake = FakeTriton()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    fake.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    if fake.hold:
        fake.hold.set()
    server.stop(0).wait()


@pytest.fixture
def nobody() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"
