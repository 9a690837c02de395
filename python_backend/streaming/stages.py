"""The models behind a streamed request, as this Triton server runs them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from python_backend import error_text, serving
from python_backend.serving import Inputs
from python_backend.spent import SpentCalls
from python_backend.streaming.routing import FLOW_INPUTS, LLM_INPUTS, VOICE_INPUTS
from python_backend.streaming.session import Floats, Tensors
from python_backend.token2wav.streaming.chunks import Chunk

VOICE_OUTPUTS = ["prompt_tokens", "prompt_mel", "speaker_embedding", "stage_ms", "voice_key", "cache_hit"]
LLM_OUTPUTS = ["tokens", "finish_reason", "usage", "stage_ms", "error"]


class TritonStages:
    """Calls `voice_encoder`, a language model, `flow` and `vocoder`; see `session.Stages` for the methods.

    Args:
        inputs: of the request.
        llm: name of the language model.
        parameters: of the request, for the language model.
        spent: keeps finished calls.
    """

    def __init__(self, inputs: Inputs, llm: str, parameters: Mapping[str, Any], spent: SpentCalls):
        self._inputs = inputs
        self._llm = llm
        self._parameters = parameters
        self._spent = spent

    def voice(self) -> Tensors:
        """Encode the request's clip."""
        return self._call("voice_encoder", self._inputs.chosen(VOICE_INPUTS), VOICE_OUTPUTS)

    def speak(self, prompt_tokens: NDArray[np.int32], cancel_id: str) -> Iterator[Tensors]:
        """Generate; an error arrives as data, because Triton drops it on its way to a calling model."""
        inputs = {
            **self._inputs.chosen(LLM_INPUTS),
            "prompt_tokens": prompt_tokens,
            "cancel_id": _bytes(cancel_id),
        }
        parameters = {**self._parameters, "error_output": True}
        request = serving.request_to(self._llm, inputs, LLM_OUTPUTS, self._inputs.request_id, parameters)
        pieces = request.exec(decoupled=True)
        try:
            for piece in pieces:
                if piece.has_error():
                    raise serving.called_model_error(self._llm, piece.error())
                answer = {tensor.name(): np.array(tensor.as_numpy(), copy=True) for tensor in piece.output_tensors()}
                if "error" in answer:
                    raise error_text.from_text(bytes(answer["error"][0]).decode())
                if answer:
                    yield answer
        finally:
            self._spent.keep(pieces)

    def cancel(self, cancel_id: str) -> None:
        """Stop generating."""
        inputs = {"op": _bytes("cancel"), "cancel_id": _bytes(cancel_id)}
        pieces = serving.request_to(self._llm, inputs, LLM_OUTPUTS).exec(decoupled=True)
        try:
            for piece in pieces:
                if piece.has_error():
                    raise serving.called_model_error(self._llm, piece.error())
        finally:
            self._spent.keep(pieces)

    def open(self, stream_id: str, voice: Tensors) -> float:
        """Open a stream of the flow and return the milliseconds it took there."""
        content = {name: voice[name] for name in ("prompt_tokens", "prompt_mel", "speaker_embedding")}
        inputs = {**self._inputs.chosen(FLOW_INPUTS), **content}
        return float(self._flow("open", stream_id, inputs, ["stage_ms"])["stage_ms"][0])

    def chunk(self, stream_id: str, chunk: Chunk, lead: float) -> tuple[Floats, float]:
        """Return the chunk's mel and the milliseconds it took there; the last one closes the stream."""
        inputs = {"tokens": chunk.tokens, "finish": np.array([chunk.last])}
        answer = self._flow("chunk", stream_id, inputs, ["mel", "stage_ms"], {"lead_ms": round(1e3 * lead)})
        return answer["mel"], float(answer["stage_ms"][1])

    def close(self, stream_id: str) -> None:
        """Free a stream of the flow."""
        self._flow("close", stream_id, {}, ["stage_ms"])

    def vocode(
        self,
        mel: Floats,
        mel_length: NDArray[np.int32],
        noise: Floats,
        cached_source: Floats,
        cached_source_length: NDArray[np.int32],
    ) -> tuple[Floats, Floats]:
        """See `streaming.vocoder.Vocoder`."""
        inputs = {
            "mel": mel[None],
            "mel_length": mel_length[None],
            "noise": noise[None],
            "cached_source": cached_source[None],
            "cached_source_length": cached_source_length[None],
        }
        answer = self._call("vocoder", inputs, ["waveform", "source"])
        return answer["waveform"][0], answer["source"][0]

    def _flow(
        self, op: str, stream_id: str, inputs: Tensors, outputs: list[str], parameters: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        inputs = {"op": _bytes(op), "stream_id": _bytes(stream_id), **inputs}
        return self._call("flow", inputs, outputs, parameters)

    def _call(
        self, model: str, inputs: Tensors, outputs: list[str], parameters: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        return serving.call(model, inputs, outputs, self._inputs.request_id, parameters)


def llm_of(variant: str) -> str:
    """Return the name of a variant's language model."""
    return f"llm_{variant}"


def is_loaded(model: str) -> bool:
    """Tell whether this server serves `model` now."""
    return bool(pb_utils.is_model_ready(model))


def _bytes(text: str) -> NDArray[Any]:
    return np.array([text.encode()], dtype=np.object_)
