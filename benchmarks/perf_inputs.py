"""What each model is measured with: a real recording, carried through the chain of models once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from python_backend.voice.resample import resample

Tensors = dict[str, NDArray[Any]]
ENCODER_RATE = 16_000
BUCKET_FRAMES = 50
SAMPLES_PER_FRAME = 480
TEXT = "Hello there, this sentence measures how fast I speak."


def chain_inputs(client: triton.InferenceServerClient, clip: Path, prompt_text: str) -> dict[str, Tensors]:
    """Return the inputs of every model for a clone of `clip`, in the order of the chain, each from the step before.

    Then those of recognising it, where the recogniser is loaded.
    """
    waveform, rate = soundfile.read(clip, dtype="float32")
    voice: Tensors = {"audio": waveform, "sample_rate": _scalar(rate)}
    words: Tensors = {"mode": _text("clone"), "text": _text(TEXT), "prompt_text": _text(prompt_text)}
    encoded = infer(client, "voice_encoder", voice, ["prompt_tokens", "prompt_mel", "speaker_embedding"])
    speech: Tensors = {**words, "prompt_tokens": encoded["prompt_tokens"]}
    tokens = infer(client, "llm_base_unary", speech, ["tokens"])
    flow: Tensors = {**tokens, **encoded}
    mel = infer(client, "flow", flow, ["mel", "mel_length", "noise", "cached_source", "cached_source_length"])
    audio = _padded_audio(waveform, rate)
    recognition: dict[str, Tensors] = {
        "sense_voice": {**audio, "language": _scalar(0), "text_norm": _scalar(14), "dither": np.ones(1, np.float32)},
        "speech_recognizer": voice,
    }
    return {
        "speaker_encoder": audio,
        "semantic_tokenizer": audio,
        "linguistic_tokenizer": {**audio, "dither": np.ones(1, np.float32)},
        "voice_encoder": voice,
        "llm_base": speech,
        "llm_base_unary": speech,
        "flow": flow,
        "vocoder": _padded_mel(mel),
        "step_audio_editx_base": {**voice, **words},
        "step_audio_editx_stream": {**voice, **words},
        **{model: tensors for model, tensors in recognition.items() if client.is_model_ready(model)},
    }


def perf_analyzer_data(tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the content of perf_analyzer's `--input-data` file for one request."""
    entry = {
        name: {"content": [_plain(value) for value in array.reshape(-1)], "shape": list(array.shape)}
        for name, array in tensors.items()
    }
    return {"data": [entry]}


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item()


def infer(
    client: triton.InferenceServerClient, model: str, tensors: Tensors, outputs: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Call one model and return its outputs by name."""
    inputs = []
    for name, array in tensors.items():
        entry = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    answer = client.infer(model, inputs, outputs=[triton.InferRequestedOutput(name) for name in outputs])
    return {name: answer.as_numpy(name) for name in outputs}


def _padded_audio(waveform: NDArray[np.float32], rate: int) -> Tensors:
    """Return what a leaf encoder takes: 16 kHz, zeros up to the next whole second."""
    audio = resample(waveform, rate, ENCODER_RATE)
    padded = np.zeros(-(-len(audio) // ENCODER_RATE) * ENCODER_RATE, np.float32)
    padded[: len(audio)] = audio
    return {"audio": padded, "audio_length": _scalar(len(audio))}


def _padded_mel(tensors: Tensors) -> Tensors:
    """Return what the vocoder takes: zeros up to the next bucket of frames."""
    frames = tensors["mel"].shape[1]
    extra = -frames % BUCKET_FRAMES
    return {
        **tensors,
        "mel": np.pad(tensors["mel"], ((0, 0), (0, extra))),
        "noise": np.pad(tensors["noise"], (0, extra * SAMPLES_PER_FRAME)),
    }


def _scalar(value: int) -> NDArray[np.int32]:
    return np.array([value], np.int32)


def _text(value: str) -> NDArray[Any]:
    return np.array([value.encode()], dtype=object)
