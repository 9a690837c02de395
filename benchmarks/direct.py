"""The networks of a model repository in this process: the same classes as behind Triton, called without it."""

import queue
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from python_backend.llm import packing, placement, weights
from python_backend.llm.engine import Engine
from python_backend.llm.kv_cache import slots_within
from python_backend.llm.prompt import PromptForm
from python_backend.llm.request import Event, Failed, SpeechRequest, Tokens, plan
from python_backend.llm.runner import Runner
from python_backend.llm.tokenizer import Tokenizer
from python_backend.streaming.session import Floats, Session, Tensors
from python_backend.threads import suit
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.engine import CloseStream, FlowEngine, NextChunk, OpenStream
from python_backend.token2wav.runtime import open_runtime
from python_backend.token2wav.streaming.chunks import Chunk
from python_backend.token2wav.streaming.flow import StreamingFlow
from python_backend.token2wav.streaming.store import PromptCache, StreamStore
from python_backend.token2wav.token2mel import MelRequest, TokenToMel
from python_backend.token2wav.torch_runtime import TorchRuntime

IDLE_SECONDS = 60.0


class Vocoder:
    """The vocoder's network on the CPU, called as `streaming.vocoder.Vocoder`."""

    def __init__(self, repository: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = repository / "vocoder" / "1" / "model.onnx"
        self._network = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(
        self,
        mel: Floats,
        mel_length: NDArray[np.int32],
        noise: Floats,
        cached_source: Floats,
        cached_source_length: NDArray[np.int32],
    ) -> tuple[Floats, Floats]:
        """Return waveform and source of one mel."""
        inputs = {
            "mel": mel[None],
            "mel_length": mel_length[None],
            "noise": noise[None],
            "cached_source": cached_source[None],
            "cached_source_length": cached_source_length[None],
        }
        waveform, source = self._network.run(["waveform", "source"], inputs)
        return waveform[0], source[0]


@dataclass(frozen=True)
class Token2Wav:
    """The flow, whole and streaming, on one set of weights, and the vocoder."""

    config: FlowConfig
    whole: TokenToMel
    streaming: StreamingFlow
    vocoder: Vocoder

    @classmethod
    def load(cls, repository: Path, threads: int) -> "Token2Wav":
        """Load both from `repository` as its configuration says.

        Raises:
            ValueError: the flow runs on a runtime that does not stream.
        """
        directory, parameters = repository / "flow" / "1", _parameters(repository, "flow")
        config = FlowConfig.read(directory / "flow.json")
        runtime = open_runtime(directory, **{name: parameters[name] for name in ("runtime", "device", "dtype")})
        if not isinstance(runtime, TorchRuntime):
            raise ValueError("streams need the flow's torch runtime")
        return cls(
            config, TokenToMel(runtime, config), StreamingFlow(runtime.flow, config), Vocoder(repository, threads)
        )


class Machine:
    """Language model, flow and vocoder behind streamed sessions, in this process.

    Args:
        repository: the exported models.
        threads: of the vocoder; torch has its own setting.
    """

    def __init__(self, repository: Path, threads: int):
        directory, parameters = repository / "llm_base" / "1", _parameters(repository, "llm_base")
        device = placement.device(parameters["device"])
        dtype = placement.dtype(parameters["dtype"], device, weights.stored_dtype(directory))
        model = packing.pack(weights.load(directory, device, dtype))
        suit(model)
        self.tokenizer = Tokenizer(directory / "tokenizer.model")
        self.form = PromptForm(parameters["prompt_form"])
        self.context = min(int(parameters["context"]), model.config.max_seq_len)
        room = (int(parameters["kv_bytes"]), int(parameters["slots"]))
        slots = slots_within(*room, model.config, self.context, model.dtype)
        offset, stop = self.tokenizer.audio_offset, self.tokenizer.eot
        runner = Runner(model, slots, self.context, offset, stop, parameters["deterministic"] == "true")
        limits = (int(parameters[name]) for name in ("max_queue", "prefill_chunk", "prefix_bytes"))
        self.llm = Engine(runner, *limits)
        self.token2wav = Token2Wav.load(repository, threads)
        self.flow = FlowEngine(
            self.token2wav.whole,
            self.token2wav.streaming,
            self.token2wav.config,
            StreamStore(64, 2**34, IDLE_SECONDS),
            PromptCache(2**31),
        )
        self._readers = ThreadPoolExecutor(4)

    def session(self, voice: Tensors, request: SpeechRequest) -> Session:
        """Return one request as the streaming model runs it; `voice` has the outputs of `voice_encoder`."""
        stages = _Stages(self, voice, request)
        return Session(stages, request.sampling.seed, self._readers.submit, lambda: 1, IDLE_SECONDS)

    def close(self) -> None:
        """Stop the engines."""
        self.llm.close()
        self.flow.close()
        self._readers.shutdown()


class _Stages:
    def __init__(self, machine: Machine, voice: Tensors, request: SpeechRequest):
        self._machine = machine
        self._voice = voice
        self._request = request

    def voice(self) -> Tensors:
        return self._voice

    def speak(self, prompt_tokens: NDArray[np.int32], cancel_id: str) -> Iterator[Tensors]:
        machine = self._machine
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        request = replace(self._request, prompt_tokens=prompt_tokens.tolist(), cancel_id=cancel_id)
        machine.llm.submit(plan(request, machine.tokenizer, machine.form, machine.context), events.put)
        while isinstance(event := events.get(), Tokens):
            yield {"tokens": np.array(event.tokens, np.int32)}
        if isinstance(event, Failed):
            raise event.error
        yield {
            "tokens": np.empty(0, np.int32),
            "finish_reason": np.array([event.reason]),
            "usage": np.array(event.usage, np.int32),
            "stage_ms": np.array(event.stage_ms, np.float32),
        }

    def cancel(self, cancel_id: str) -> None:
        self._machine.llm.cancel(cancel_id)

    def open(self, stream_id: str, voice: Tensors) -> float:
        content = MelRequest(
            np.empty(0, np.int32), voice["prompt_tokens"], voice["prompt_mel"], voice["speaker_embedding"]
        )
        return self._done(self._machine.flow.submit(OpenStream(stream_id, content))).stage_ms[0]

    def chunk(
        self,
        stream_id: str,
        chunk: Chunk,
        lead: float = 0.0,  # noqa: ARG002 - a stream alone gives way to nobody
    ) -> tuple[Floats, float]:
        answer = self._done(self._machine.flow.submit(NextChunk(stream_id, chunk)))
        return answer.mel, answer.stage_ms[1]

    def close(self, stream_id: str) -> None:
        self._done(self._machine.flow.submit(CloseStream(stream_id)))

    def vocode(self, *inputs: Any) -> tuple[Floats, Floats]:
        return self._machine.token2wav.vocoder(*inputs)

    @staticmethod
    def _done(answer: "Future[Any]") -> Any:
        return answer.result(IDLE_SECONDS)


def first_audio(session: Session) -> float:
    """Run a session to its end and return the seconds to its first sound."""
    started = time.perf_counter()
    waveforms = session.waveforms()
    next(waveforms)
    first = time.perf_counter() - started
    for _ in waveforms:
        pass
    session.close()
    return first


def _parameters(repository: Path, model: str) -> dict[str, str]:
    text = (repository / model / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    return {name: value.string_value for name, value in config.parameters.items()}
