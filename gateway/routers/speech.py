"""Speech, in OpenAI's form and with the model's own options."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, File, Form, Request, Response, UploadFile
from pydantic import ValidationError

from gateway.audio import OUTPUT_RATE
from gateway.disconnect import CallerGone, unless_gone
from gateway.encoding import CODECS
from gateway.errors import ApiError, InvalidJson, envelope, from_validation
from gateway.headers import field_value, metadata_headers, server_timing
from gateway.openapi import SPEECH_EXAMPLES
from gateway.routers.documented import errors
from gateway.schemas import SpeechRequest
from gateway.speech import SpeechService, Spoken
from gateway.streaming import ByteStream, LiveResponse

_EVENT_BYTES = 16 * 1024
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Mono audio at 24 kHz, 16-bit where the format has a sample size; or server-sent events.",
        "content": {codec.content_type: _BINARY for codec in CODECS.values()} | {"text/event-stream": {}},
    },
    **errors(400, 401, 404, 413, 415, 429, 500, 503, 504),
}


def router(service: SpeechService) -> APIRouter:
    """Return the routes under `/v1/audio/speech`."""
    routes = APIRouter(prefix="/v1/audio/speech", tags=["speech"])

    async def answer(request: Request, body: SpeechRequest, upload: bytes | None) -> Response:
        echoed = metadata_headers(body.metadata or {})
        serve = service.stream if body.stream or body.stream_format == "sse" else service.speak
        try:
            return _answer(await unless_gone(request, serve(body, upload)), echoed)
        except CallerGone:
            return Response(status_code=499)

    @routes.post("", response_class=Response, responses=_AUDIO)
    async def create_speech(
        request: Request, body: Annotated[SpeechRequest, Body(openapi_examples=SPEECH_EXAMPLES)]
    ) -> Response:
        """Clone a voice, or edit a recording."""
        return await answer(request, body, None)

    @routes.post("/upload", response_class=Response, responses=_AUDIO)
    async def create_speech_from_upload(
        request: Request,
        payload: Annotated[str, Form(min_length=2, description="The JSON that `/v1/audio/speech` takes.")],
        input_audio_file: Annotated[UploadFile | None, File(description="Clip to edit.")] = None,
        prompt_audio_file: Annotated[UploadFile | None, File(description="Reference clip of a clone.")] = None,
    ) -> Response:
        """Do the same with the clip as a file, which beats a clip or URL in `payload`."""
        body = parse_payload(payload)
        clip = prompt_audio_file if body.options.mode == "clone" else input_audio_file
        return await answer(request, body, None if clip is None else await clip.read())

    return routes


def parse_payload(text: str) -> SpeechRequest:
    """Read the JSON part of a form; without a `step_audio` object it has an empty one.

    Raises:
        ApiError: it is not JSON, or not a request.
    """
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidJson("payload: is not valid JSON", param="payload") from None
    if isinstance(payload, dict) and not isinstance(payload.get("step_audio"), dict):
        payload["step_audio"] = {}
    try:
        return SpeechRequest.model_validate(payload)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def _answer(spoken: Spoken[Any], echoed: dict[str, str]) -> Response:
    asked, warnings, result = spoken.plan.request, list(spoken.plan.warnings), spoken.result
    headers = {"X-StepAudio-Model": asked.model, "X-StepAudio-Sample-Rate": str(OUTPUT_RATE), **echoed}
    if spoken.variant:
        headers["X-StepAudio-Variant"] = spoken.variant
    if spoken.cache_hit is not None:
        headers["X-StepAudio-Cache"] = "hit" if spoken.cache_hit else "miss"
    if result:
        headers["Server-Timing"] = server_timing(result.stage_ms)
        if result.finish_reason == "length":
            warnings.append("the speech was cut where its token budget ended")
    if warnings:
        headers["X-StepAudio-Warning"] = field_value("; ".join(warnings))
    content_type = CODECS[spoken.plan.audio_format].content_type
    if isinstance(spoken.body, bytes):
        return Response(spoken.body, media_type=content_type, headers=headers)
    if asked.stream_format == "sse":
        return LiveResponse(spoken.body, _events(spoken, spoken.body), "text/event-stream", headers)
    return LiveResponse(spoken.body, aiter(spoken.body), content_type, headers)


async def _events(spoken: Spoken[ByteStream], body: ByteStream) -> AsyncIterator[str]:
    try:
        async for chunk in body:
            for start in range(0, len(chunk), _EVENT_BYTES):
                piece = base64.b64encode(chunk[start : start + _EVENT_BYTES]).decode()
                yield _event({"type": "speech.audio.delta", "audio": piece})
    except ApiError as error:
        yield _event(envelope(error))
        return
    result = spoken.result
    counts = (result.prompt_tokens, result.generated_tokens) if result else (0, 0)
    usage = {"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": sum(counts)}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
