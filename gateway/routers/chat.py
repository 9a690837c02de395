"""Conversations: OpenAI's form, and the shorter one of `/api/chat`."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.chat import ChatService
from gateway.chat_backends import Json, sse
from gateway.chat_schemas import ChatAnswer, ChatCompletion, ChatCompletionRequest
from gateway.disconnect import CallerGone, unless_gone
from gateway.errors import ApiError, envelope
from gateway.headers import field_value
from gateway.routers.documented import errors
from gateway.routers.json_body import json_body, read_json
from gateway.routers.plain_errors import PlainErrorRoute, plain_errors
from gateway.streaming import ByteStream, LiveResponse

_FAULTS = (400, 413, 429, 500, 503, 504)
_EXAMPLE = {"messages": [{"role": "user", "content": "请用一句话总结人工智能"}]}
# What clients of `/api/chat` may look for in `raw`, whoever answered.
_CHOICE = {"delta": None, "logprobs": None}
_MESSAGE = dict.fromkeys(
    ("annotations", "audio", "function_call", "function_calls", "reasoning_content", "refusal", "tool_calls")
)
_RAW = {"service_tier": None, "system_fingerprint": None}
_USAGE = {"completion_tokens_details": None, "prompt_tokens_details": None}


def openai_router(service: ChatService) -> APIRouter:
    """Return OpenAI's `/v1/chat/completions`."""
    routes = APIRouter(prefix="/v1", tags=["chat"])

    @routes.post(
        "/chat/completions",
        response_class=Response,
        responses={
            200: {"model": ChatCompletion, "content": {"text/event-stream": {}}},
            **errors(400, 401, 413, 415, 429, 500, 503, 504),
        },
    )
    async def create_chat_completion(request: Request, body: ChatCompletionRequest) -> Response:
        """Answer a conversation, at once or as server-sent events."""
        warnings = service.warnings(body)
        headers = {"X-StepAudio-Warning": field_value("; ".join(warnings))} if warnings else {}
        if (known := await service.model()) is not None:
            headers["X-StepAudio-Served-By"] = field_value(known.id)
        try:
            if not body.stream:
                return JSONResponse(await unless_gone(request, service.complete(body)), headers=headers)
            chunks = await _begin(request, service, body, sse)
        except CallerGone:
            return Response(status_code=499)
        return LiveResponse(chunks, _events(chunks), "text/event-stream", headers)

    return routes


def short_router(service: ChatService) -> APIRouter:
    """Return `/api/chat` and `/api/chat/stream`."""
    routes = APIRouter(prefix="/api/chat", tags=["chat"], route_class=PlainErrorRoute)
    described = json_body(ChatCompletionRequest, _EXAMPLE)

    @routes.post("", response_model=ChatAnswer, responses=plain_errors(*_FAULTS), openapi_extra=described)
    async def chat(request: Request) -> Response:
        """Answer a conversation."""
        body = await read_json(request, ChatCompletionRequest)
        try:
            raw = _complete(await unless_gone(request, service.complete(body)))
        except CallerGone:
            return Response(status_code=499)
        content = raw["choices"][0]["message"].get("content") or ""
        answer = {"content": content, "model": body.model or raw.get("model", ""), "raw": raw}
        known = await service.model()
        headers = {} if known is None else {"X-StepAudio-Served-By": field_value(known.id)}
        return JSONResponse(answer, headers=headers)

    @routes.post(
        "/stream",
        response_class=Response,
        responses={
            200: {"content": {kind: {} for kind in ("text/plain", "application/x-ndjson", "text/event-stream")}},
            **plain_errors(*_FAULTS),
        },
        openapi_extra=described,
    )
    async def chat_stream(request: Request) -> Response:
        """Answer a conversation as lines of JSON: `{"delta": …}`, and `{"event": "done"}` at the end."""
        body = await read_json(request, ChatCompletionRequest)
        accepted = request.headers.get("accept", "")
        asked = [kind for kind in ("application/x-ndjson", "text/event-stream") if kind in accepted]
        media_type = asked[0] if asked else "text/plain"
        write = sse if media_type == "text/event-stream" else _line

        def deltas(chunk: Json) -> bytes:
            texts = [(choice.get("delta") or {}).get("content") for choice in chunk.get("choices") or []]
            return b"".join(write({"delta": text}) for text in texts if text)

        try:
            chunks = await _begin(request, service, body, deltas)
        except CallerGone:
            return Response(status_code=499)
        return LiveResponse(chunks, _lines(chunks, write), media_type, {})

    return routes


async def _begin(
    request: Request, service: ChatService, body: ChatCompletionRequest, write: Callable[[Json], bytes]
) -> ByteStream:
    """Return the stream once its first bytes are there; what goes wrong before that is raised."""
    chunks = ByteStream()

    async def work() -> None:
        async with aclosing(service.stream(body)) as made:
            async for chunk in made:
                chunks.put(write(chunk))

    await unless_gone(request, chunks.start(work()))
    return chunks


async def _events(body: ByteStream) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            yield chunk
    except ApiError as error:
        yield sse(envelope(error))
        return
    yield b"data: [DONE]\n\n"


async def _lines(body: ByteStream, write: Callable[[Json], bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            yield chunk
    except ApiError as error:
        yield write({"error": envelope(error)["detail"]})
        return
    yield write({"event": "done"})


def _line(content: Json) -> bytes:
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()


def _complete(raw: Json) -> Json:
    """Return `raw` with a null wherever a client may look for something that this backend does not send."""
    choices: list[dict[str, Any]] = [
        {**_CHOICE, **choice, "message": {**_MESSAGE, **(choice.get("message") or {})}} for choice in raw["choices"]
    ]
    return {**_RAW, **raw, "choices": choices, "usage": {**_USAGE, **(raw.get("usage") or {})}}
