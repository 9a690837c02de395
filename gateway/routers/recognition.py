"""`/asr`: the words of a recording, as a Flask service in front of SenseVoice gave them."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from client.speech import Clip
from gateway.disconnect import CallerGone, unless_gone
from gateway.errors import ApiError, MissingParameter, envelope
from gateway.rich_text import RichText, rich_text
from gateway.routers.plain_errors import PlainErrorRoute, plain_errors
from gateway.streaming import ByteStream, LiveResponse
from gateway.transcript_schemas import RecognizedText
from gateway.transcription import TranscriptionService

Recording = Annotated[UploadFile | None, File(description="A recording in any format FFmpeg reads.")]
_ERRORS = plain_errors(400, 413, 429, 500, 503, 504)
_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": 'One JSON object a line, `{"partial_text": …}`, each with the text of the next segment.',
        "content": {"application/json": {}, "application/x-ndjson": {}, "text/event-stream": {}},
    },
    **_ERRORS,
}


def router(service: TranscriptionService) -> APIRouter:
    """Return the routes under `/asr`."""
    routes = APIRouter(prefix="/asr", tags=["recognition"], route_class=PlainErrorRoute)

    async def read(file: UploadFile | None, audio: UploadFile | None) -> Clip:
        upload = file or audio
        if upload is None:
            raise MissingParameter("No file uploaded", param="file")
        return await service.read(await upload.read(), "file")

    @routes.post("", response_model=RecognizedText, responses=_ERRORS)
    async def recognize(request: Request, file: Recording = None, audio: Recording = None) -> Response:
        """Recognise speech; signs in the text tell of emotions and events."""
        clip = await read(file, audio)
        try:
            transcript = await unless_gone(request, service.transcribe(clip))
        except CallerGone:
            return Response(status_code=499)
        return JSONResponse({"text": rich_text(transcript.segments)})

    @routes.post("/stream", response_class=Response, responses=_LINES)
    async def recognize_in_parts(request: Request, file: Recording = None, audio: Recording = None) -> Response:
        """Recognise speech and send each segment as it is known; the texts joined are what `/asr` gives."""
        clip = await read(file, audio)
        form = _form(request.headers.get("accept", ""))
        body = ByteStream()
        await body.start(_put_lines(service, clip, form, body))
        return LiveResponse(body, _with_error(body, form), form, {})

    return routes


def _form(accept: str) -> str:
    return next((form for form in ("application/x-ndjson", "text/event-stream") if form in accept), "application/json")


async def _put_lines(service: TranscriptionService, clip: Clip, form: str, body: ByteStream) -> None:
    text, begun = RichText(), False
    async with aclosing(service.segments(clip)) as segments:
        async for segment in segments:
            part = text.add(segment)
            body.put(_line({"partial_text": part if begun else part.lstrip()}, form))
            begun = True
    if end := text.close():
        body.put(_line({"partial_text": end}, form))


async def _with_error(body: ByteStream, form: str) -> AsyncIterator[bytes]:
    try:
        async for line in body:
            yield line
    except ApiError as error:
        yield _line({"error": envelope(error)["detail"]}, form)


def _line(content: dict[str, str], form: str) -> bytes:
    text = json.dumps(content, ensure_ascii=False)
    return (f"data: {text}\n\n" if form == "text/event-stream" else f"{text}\n").encode()
