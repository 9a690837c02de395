"""Transcription in OpenAI's form."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from client.recognition import Segment
from client.speech import Clip
from gateway.disconnect import CallerGone, unless_gone
from gateway.errors import ApiError, InvalidValue, ModelNotFound, Unsupported, envelope
from gateway.models import RECOGNIZER_ALIASES
from gateway.routers.documented import errors
from gateway.streaming import ByteStream, LiveResponse
from gateway.subtitles import srt, vtt
from gateway.transcript_schemas import (
    DiarizedTranscription,
    Transcription,
    VerboseTranscription,
    diarized,
    plain,
    speaker_segment,
    token_usage,
    verbose,
)
from gateway.transcription import LANGUAGES, Transcript, TranscriptionService

Format = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
Granularity = Literal["word", "segment"]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Transcription | VerboseTranscription | DiarizedTranscription,
        "description": "The transcript in the format asked for, or server-sent events.",
        "content": {"text/plain": {}, "text/vtt": {}, "text/event-stream": {}},
    },
    **errors(400, 401, 404, 413, 415, 429, 500, 503, 504),
}


def _language(language: Annotated[str, Form(description="Code or English name; found out when left out.")] = "") -> str:
    """Return the recogniser's code of a language given as a code, a locale or an English name."""
    given = language.strip().lower()
    code = given.replace("_", "-").split("-")[0]
    by_name = {name: code for code, name in LANGUAGES.items()}
    if not given or given == "auto":
        return "auto"
    if code in LANGUAGES or given in by_name:
        return by_name.get(given, code)
    known = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    raise InvalidValue(f"language: {language!r} is not one the recogniser knows: {known}", param="language")


def _granularities(
    bracketed: Annotated[list[Granularity] | None, Form(alias="timestamp_granularities[]")] = None,
    plain_name: Annotated[list[Granularity] | None, Form(alias="timestamp_granularities")] = None,
) -> frozenset[str]:
    """Return which times `verbose_json` has; OpenAI's clients put brackets behind the name."""
    return frozenset([*(bracketed or ()), *(plain_name or ())]) or frozenset({"segment"})


def router(service: TranscriptionService) -> APIRouter:
    """Return the routes of OpenAI's speech to text."""
    routes = APIRouter(prefix="/v1/audio", tags=["recognition"])

    async def served_by(model: str) -> str:
        description = await service.describe()
        known = {*RECOGNIZER_ALIASES, *([description.model] if description else [])}
        if model not in known:
            raise ModelNotFound(f"no model that transcribes is called {model!r}; see /v1/models", param="model")
        return description.model if description else ""

    @routes.post("/transcriptions", response_class=Response, responses=_ANSWERS)
    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File(description="A recording in any format FFmpeg reads.")],
        model: Annotated[str, Form(description="A listed model or alias.")],
        language: Annotated[str, Depends(_language)],
        granularities: Annotated[frozenset[str], Depends(_granularities)],
        response_format: Annotated[Format, Form()] = "json",
        stream: Annotated[bool, Form(description="Send server-sent events as the text is known.")] = False,
        temperature: Annotated[float, Form(ge=0, le=1, description="Taken, without effect.")] = 0.0,  # noqa: ARG001
        prompt: Annotated[str, Form(description="Taken, without effect.")] = "",  # noqa: ARG001
    ) -> Response:
        """Transcribe a recording."""
        headers = {"X-StepAudio-Model": model, "X-StepAudio-Served-By": await served_by(model)}
        clip = await service.read(await file.read(), "file")
        if stream:
            body = ByteStream()
            await body.start(
                _put_events(service, clip, language, body, with_speakers=response_format == "diarized_json")
            )
            return LiveResponse(body, _with_error(body), "text/event-stream", headers)
        try:
            transcript = await unless_gone(request, service.transcribe(clip, language))
        except CallerGone:
            return Response(status_code=499)
        answer = _answer(transcript, response_format, granularities)
        answer.headers.update(headers)
        return answer

    @routes.post("/translations", responses=errors(400, 401))
    async def translate() -> None:
        """Refuse: the recogniser writes down what is said, in the language it is said in."""
        raise Unsupported("the recogniser does not translate; /v1/audio/transcriptions gives the words as spoken")

    return routes


def _answer(transcript: Transcript, form: Format, granularities: frozenset[str]) -> Response:
    match form:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "srt":
            return PlainTextResponse(srt(transcript.segments))
        case "vtt":
            return PlainTextResponse(vtt(transcript.segments), media_type="text/vtt")
        case "verbose_json":
            return JSONResponse(verbose(transcript, granularities).model_dump(exclude_none=True))
        case "diarized_json":
            return JSONResponse(diarized(transcript).model_dump())
        case "json":
            return JSONResponse(plain(transcript).model_dump())


async def _put_events(
    service: TranscriptionService, clip: Clip, language: str, body: ByteStream, *, with_speakers: bool
) -> None:
    found: list[Segment] = []
    async with aclosing(service.segments(clip, language)) as segments:
        async for segment in segments:
            delta = segment.text if found else segment.text.lstrip()
            body.put(_event({"type": "transcript.text.delta", "delta": delta}))
            if with_speakers:
                body.put(_event(speaker_segment(len(found), segment).model_dump()))
            found.append(segment)
    transcript = Transcript(tuple(found), clip.seconds)
    usage = token_usage(transcript).model_dump()
    body.put(_event({"type": "transcript.text.done", "text": transcript.text, "usage": usage}))


async def _with_error(body: ByteStream) -> AsyncIterator[bytes]:
    try:
        async for event in body:
            yield event
    except ApiError as error:
        yield _event(envelope(error))


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
