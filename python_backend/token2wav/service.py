"""The flow as a Triton model: tensors in, work for its engine, tensors out."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from python_backend import serving
from python_backend.errors import InvalidInput
from python_backend.noise import gaussian
from python_backend.serving import Inputs, Outputs
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.engine import CloseStream, FlowEngine, NextChunk, OpenStream, Work
from python_backend.token2wav.runtime import open_runtime
from python_backend.token2wav.streaming.chunks import Chunk
from python_backend.token2wav.streaming.flow import StreamingFlow
from python_backend.token2wav.streaming.store import PromptCache, StreamStore
from python_backend.token2wav.token2mel import DEFAULT_STEPS, Mel, MelRequest, TokenToMel
from python_backend.token2wav.torch_runtime import TorchRuntime

SAMPLES_PER_FRAME = 480
LONGEST_ID = 64


class FlowModel:
    """Loads a checkpoint and serves Triton requests from its engine.

    Args:
        directory: holds `flow.json` and the weights.
        parameters: the model's `parameters` in `config.pbtxt`.

    Raises:
        ValueError: the files or a parameter are unusable.
    """

    def __init__(self, directory: Path, parameters: dict[str, str]):
        config = FlowConfig.read(directory / "flow.json")
        runtime = open_runtime(directory, **{name: parameters[name] for name in ("runtime", "device", "dtype")})
        self._mel_channels = config.mel_channels
        self._replies = ThreadPoolExecutor(1, thread_name_prefix="reply")
        self._engine = FlowEngine(
            TokenToMel(runtime, config),
            StreamingFlow(runtime.flow, config) if isinstance(runtime, TorchRuntime) else None,
            config,
            StreamStore(
                int(parameters["max_streams"]),
                int(parameters["stream_bytes"]),
                float(parameters["stream_idle_seconds"]),
            ),
            PromptCache(int(parameters["prompt_bytes"])),
        )

    def enqueue(self, request: Any) -> None:
        """Take one Triton request; its answer leaves later."""
        sender, wanted, coded = serving.reply_of(request)

        def send(answer: Any) -> None:
            sender.send(answer, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        try:
            work = self._work(Inputs(request), json.loads(request.parameters() or "{}"))
        except Exception as error:
            send(serving.error_response(error, coded))
            return

        def reply(answer: "Future[Mel]") -> None:
            error = answer.exception()
            if error is not None:
                send(serving.error_response(error, coded))
            else:
                send(serving.response(_outputs(work, answer.result()), wanted))

        def done(answer: "Future[Mel]") -> None:
            if isinstance(work, MelRequest):
                self._replies.submit(reply, answer)  # the noise of a minute takes a while, and streams wait
            else:
                reply(answer)

        self._engine.submit(work).add_done_callback(done)

    def close(self) -> None:
        """Finish what is under way."""
        self._engine.close()
        self._replies.shutdown(wait=True)

    def _work(self, inputs: Inputs, parameters: dict[str, Any]) -> Work:
        op = inputs.text("op")
        if op is None:
            return self._voice(inputs, inputs.array("tokens", np.int32, (None,)))
        if op not in ("open", "chunk", "close"):
            raise InvalidInput("op", f"unknown operation {op!r}, must be open, chunk or close")
        stream_id = inputs.text("stream_id") or ""
        if not 0 < len(stream_id) <= LONGEST_ID:
            raise InvalidInput("stream_id", f"op {op} needs one of 1 … {LONGEST_ID} characters")
        if op == "close":
            return CloseStream(stream_id)
        if op == "chunk":
            return NextChunk(stream_id, _chunk(inputs), int(parameters.get("lead_ms", 0)) / 1e3)
        first = _chunk(inputs) if "tokens" in inputs else None
        return OpenStream(stream_id, self._voice(inputs, np.empty(0, dtype=np.int32)), first)

    def _voice(self, inputs: Inputs, tokens: Any) -> MelRequest:
        mel_shape = (self._mel_channels, None)
        return MelRequest(
            tokens=tokens,
            prompt_tokens=inputs.array("prompt_tokens", np.int32, (None,)),
            prompt_mel=inputs.array("prompt_mel", np.float32, mel_shape),
            speaker_embedding=inputs.array("speaker_embedding", np.float32, (None,)),
            seed=inputs.scalar("seed", np.int64, 0),
            steps=inputs.scalar("steps", np.int32, DEFAULT_STEPS),
            guidance=inputs.scalar("guidance", np.float32),
            initial_noise=inputs.array("initial_noise", np.float32, mel_shape) if "initial_noise" in inputs else None,
        )


def _chunk(inputs: Inputs) -> Chunk:
    return Chunk(inputs.array("tokens", np.int32, (None,)), last=inputs.scalar("finish", np.bool_, False))


def _outputs(work: Work, result: Mel) -> Outputs:
    frames = result.mel.shape[1]
    outputs = {
        "mel": result.mel,
        "mel_length": np.array([frames], dtype=np.int32),
        "stage_ms": np.array(result.stage_ms, dtype=np.float32),
    }
    if isinstance(work, MelRequest):
        outputs |= {
            "noise": gaussian(work.seed, "hift", 0, SAMPLES_PER_FRAME * frames),
            "cached_source": np.zeros(1, dtype=np.float32),
            "cached_source_length": np.zeros(1, dtype=np.int32),
        }
    return outputs
