"""The tensors of the `step_audio_editx_*` models (`docs/architecture.md`), to and from plain objects."""

from collections.abc import Iterable

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from client.speech import Clip, SpeechJob, SpeechResult

SAMPLE_RATE = 24_000

OUTPUTS = ("waveform", "finish_reason", "usage", "voice_ms", "llm_ms", "flow_ms", "kept_voice_key", "cache_hit")
STREAM_OUTPUTS = (*OUTPUTS, "vocoder_ms")
_STAGES = {
    "voice_ms": ("prepare", "linguistic", "semantic", "speaker"),
    "llm_ms": ("prefill", "decode"),
    "flow_ms": ("flow_encoder", "flow_solver"),
    "vocoder_ms": ("vocoder",),
}


def inputs_of(job: SpeechJob, voice_key: str | None = None) -> list[triton.InferInput]:
    """Return the inputs of one request; what the caller left open is left out, so that the model's default holds.

    Args:
        voice_key: in place of the clip.
    """
    sampling = job.sampling
    if voice_key is None:
        tensors = [
            _tensor("audio", "FP32", np.ascontiguousarray(job.clip.waveform, np.float32)),
            _tensor("sample_rate", "INT32", np.array([job.clip.sample_rate], np.int32)),
        ]
    else:
        tensors = [text_tensor("voice_key", voice_key)]
    tensors.append(text_tensor("mode", job.mode))
    words = {"text": job.text, "prompt_text": job.prompt_text, "edit_info": job.edit_info}
    tensors += [text_tensor(name, value) for name, value in words.items() if value]
    numbers: list[tuple[str, str, type, float | None]] = [
        ("intensity", "FP32", np.float32, None if job.intensity == 1.0 else job.intensity),
        ("temperature", "FP32", np.float32, sampling.temperature),
        ("top_k", "INT32", np.int32, sampling.top_k),
        ("top_p", "FP32", np.float32, sampling.top_p),
        ("repetition_aware", "BOOL", np.bool_, sampling.repetition_aware),
        ("seed", "INT64", np.int64, sampling.seed),
        ("max_tokens", "INT32", np.int32, sampling.max_tokens),
        ("steps", "INT32", np.int32, job.steps),
        ("guidance", "FP32", np.float32, job.guidance),
    ]
    tensors += [
        _tensor(name, dtype, np.array([value], kind)) for name, dtype, kind, value in numbers if value is not None
    ]
    return tensors


def text_tensor(name: str, value: str) -> triton.InferInput:
    """Return BYTES tensor `name` [1] that holds `value` as UTF-8."""
    return _tensor(name, "BYTES", np.array([value.encode()], dtype=object))


def requested(outputs: Iterable[str]) -> list[triton.InferRequestedOutput]:
    """Return `outputs` in the form a request names them in."""
    return [triton.InferRequestedOutput(name) for name in outputs]


def result_of(answer: triton.InferResult) -> SpeechResult:
    """Read a model's answer, or one of the answers of a stream, of which the last may be without a waveform."""
    waveform = answer.as_numpy("waveform")
    clip = Clip(np.zeros(0, np.float32) if waveform is None else waveform, SAMPLE_RATE)
    finish_reason = answer.as_numpy("finish_reason")
    hit = answer.as_numpy("cache_hit")
    cache_hit = None if hit is None else bool(hit[0])
    if finish_reason is None:
        return SpeechResult(clip, "", 0, 0, {}, cache_hit)
    prompt_tokens, generated_tokens = (int(count) for count in answer.as_numpy("usage"))
    stage_ms = {
        stage: float(spent)
        for output, stages in _STAGES.items()
        if (times := answer.as_numpy(output)) is not None
        for stage, spent in zip(stages, times, strict=True)
    }
    kept = answer.as_numpy("kept_voice_key")
    return SpeechResult(
        clip=clip,
        finish_reason=bytes(finish_reason[0]).decode(),
        prompt_tokens=prompt_tokens,
        generated_tokens=generated_tokens,
        stage_ms=stage_ms,
        cache_hit=cache_hit,
        voice_key="" if kept is None else bytes(kept[0]).decode(),
    )


def _tensor(name: str, dtype: str, value: NDArray[np.generic]) -> triton.InferInput:
    tensor = triton.InferInput(name, list(value.shape), dtype)
    tensor.set_data_from_numpy(value)
    return tensor
