"""The paths of VoxCPM's service: speech in chunks as it is made, and the state of the GPU."""

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from client.errors import SpeechError
from gateway.audio import OUTPUT_RATE
from gateway.backend import Backend
from gateway.chunked import chunk_writer
from gateway.disconnect import CallerGone, unless_gone
from gateway.errors import InvalidValue, from_backend
from gateway.form_schemas import (
    MOST_TOKENS,
    GpuStatus,
    NoGpu,
    Offloaded,
    VoxRequest,
    VoxStreamRequest,
    VoxVoice,
    VoxVoices,
)
from gateway.forms import form_body, read_form
from gateway.gpu import first_gpu
from gateway.routers.detail_errors import DetailRoute, details
from gateway.schemas import LONGEST_TOKENS, SHORTEST_TOKENS, SpeechRequest, StepAudioOptions
from gateway.speech import SpeechService
from gateway.streaming import LiveResponse
from gateway.voices import VoiceLibrary

RATE = 44_100
DEFAULT = "default"
_GIB = 2**30
_WAV: dict[str, Any] = {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}
_FAULTS = details(400, 401, 404, 413, 415, 422, 429, 500, 503, 504)
_WHOLE: dict[int | str, dict[str, Any]] = {
    200: {"description": "A WAV file: mono, 16-bit, 44.1 kHz.", "content": _WAV},
    **_FAULTS,
}
_CHUNKS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The same in chunks as they are made.", "content": {**_WAV, "audio/pcm": {}}},
    **_FAULTS,
}


def router(service: SpeechService, backend: Backend, voices: VoiceLibrary) -> APIRouter:
    """Return the routes under `/api` that have to do with speech."""
    routes = APIRouter(prefix="/api", tags=["VoxCPM"], route_class=DetailRoute)

    @routes.post("/tts/stream", response_class=Response, responses=_CHUNKS, openapi_extra=form_body(VoxStreamRequest))
    async def stream_speech(request: Request) -> Response:
        """Speak, and send each chunk as soon as it is made."""
        form = await read_form(request, VoxStreamRequest)
        writer = chunk_writer(form.chunk_format, OUTPUT_RATE, RATE)
        try:
            asked, clip = await unless_gone(request, _asked(service, form))
            spoken = await unless_gone(request, service.stream(asked, clip, writer))
        except CallerGone:
            return Response(status_code=499)
        kind = "audio/pcm" if form.chunk_format == "pcm" else "audio/wav"
        return LiveResponse(spoken.body, aiter(spoken.body), kind, {})

    @routes.post("/tts", response_class=Response, responses=_WHOLE, openapi_extra=form_body(VoxRequest))
    async def make_speech(request: Request) -> Response:
        """Speak, and send one file."""
        form = await read_form(request, VoxRequest)
        try:
            asked, clip = await unless_gone(request, _asked(service, form))
            spoken = await unless_gone(request, service.speak(asked, clip, RATE))
        except CallerGone:
            return Response(status_code=499)
        return Response(spoken.body, media_type="audio/wav")

    @routes.get("/voices")
    async def list_voices() -> VoxVoices:
        """List the voices that `voice_id` may name."""
        named = [(DEFAULT, voices.find(None)), *((voice.id, voice) for voice in voices)]
        return VoxVoices(
            voices=[VoxVoice(id=name, description=voice.description, text=voice.prompt_text) for name, voice in named]
        )

    @routes.get("/gpu/status", responses=details(500))
    async def gpu_status() -> GpuStatus | NoGpu:
        """Tell how full the GPU's memory is."""
        gpu = await to_thread.run_sync(first_gpu)
        if gpu is None:
            return NoGpu()
        try:
            loaded = bool(await backend.resident())
        except SpeechError:
            loaded = False
        return GpuStatus(
            model_loaded=loaded,
            memory_allocated_gb=round(gpu.used / _GIB, 2),
            memory_reserved_gb=round((gpu.used + gpu.reserved) / _GIB, 2),
            device_name=gpu.name,
        )

    @routes.post("/gpu/offload", responses=details(500, 503, 504))
    async def offload() -> Offloaded:
        """Let the speech models leave the memory; the next request loads them again."""
        try:
            await backend.offload()
        except SpeechError as error:
            raise from_backend(error, {}) from error
        return Offloaded()

    return routes


async def _asked(service: SpeechService, form: VoxRequest) -> tuple[SpeechRequest, bytes | None]:
    """Return the request that `form` means, and the clip that comes beside it.

    Raises:
        ApiError: it cannot be served.
    """
    text = " ".join(form.text.split())
    if not text:
        raise InvalidValue("text: must not be blank", param="text")
    if form.min_len > form.max_len:
        raise InvalidValue("min_len: must not be more than max_len", param="min_len")
    voice = None if form.voice_id in (None, DEFAULT) else form.voice_id
    recording = form.prompt_audio if form.voice_id is None else None
    if form.voice_id is None and form.prompt_text and recording is None:
        raise InvalidValue("prompt_text: needs prompt_audio, in which these words are spoken", param="prompt_text")
    options = StepAudioOptions(
        prompt_text=form.prompt_text,
        prompt_audio_base64=recording if isinstance(recording, str) else None,
        # Theirs is the weight of the guided solution, ours what is added to 1.
        guidance=form.cfg_value - 1.0,
        steps=form.inference_timesteps,
        max_tokens=None if form.max_len == MOST_TOKENS else min(max(form.max_len, SHORTEST_TOKENS), LONGEST_TOKENS),
    )
    asked = SpeechRequest(input=text, voice=voice, step_audio=options, response_format="wav")
    if not form.denoise or recording is None:
        return asked, recording if isinstance(recording, bytes) else None
    noisy = StepAudioOptions(mode="denoise", input_audio_base64=recording if isinstance(recording, str) else None)
    cleaning = SpeechRequest(step_audio=noisy, response_format="wav")
    cleaned = await service.speak(cleaning, recording if isinstance(recording, bytes) else None)
    return asked, cleaned.body
