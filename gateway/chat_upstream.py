"""An upstream that speaks OpenAI's chat API: requests go there as they are, under the key and model that are set."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from gateway.chat_backends import ChatModel, Json
from gateway.chat_schemas import ChatCompletionRequest
from gateway.errors import ApiError, BackendFailed, InvalidValue, RateLimited, TimedOut, Unavailable

MAX_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
CONNECT_SECONDS = 5.0
_JSON = {"content-type": "application/json"}


class UpstreamChat:
    """Passes conversations on.

    Args:
        url: base address, such as `https://api.openai.com/v1`.
        key: sent as bearer, empty for none; what callers send is never passed on.
        model: asked for in place of what callers name; empty passes their names on.
        timeout_seconds: for the answer to begin, and between its parts.
        transport: for tests.
    """

    def __init__(
        self, url: str, key: str, model: str, timeout_seconds: float, transport: httpx.AsyncBaseTransport | None = None
    ):
        self._model = model
        self._name = httpx.URL(url).host
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
            follow_redirects=False,
            transport=transport,
        )

    async def describe(self) -> ChatModel | None:
        """Return what is set; the upstream is not asked."""
        return ChatModel(self._model or self._name, f"an upstream at {self._name}", self._name)

    async def complete(self, request: ChatCompletionRequest) -> Json:
        """See `ChatBackend`."""
        async with self._answer(request, stream=False) as answer:
            content = await _read(answer)
        found = _parsed(content)
        if not isinstance(found.get("choices"), list) or not found["choices"]:
            raise BackendFailed("the chat upstream answered without a choice")
        return found

    async def stream(self, request: ChatCompletionRequest) -> AsyncGenerator[Json, None]:
        """See `ChatBackend`."""
        async with self._answer(request, stream=True) as answer:
            async for line in _lines(answer):
                kind, _, content = line.partition(b":")
                if kind != b"data":
                    continue
                if content.strip() == b"[DONE]":
                    return
                found = _parsed(content)
                if "error" in found:
                    raise BackendFailed(f"the chat upstream failed: {_message(found)}")
                yield found

    async def close(self) -> None:
        """See `ChatBackend`."""
        await self._http.aclose()

    @asynccontextmanager
    async def _answer(self, request: ChatCompletionRequest, stream: bool) -> AsyncIterator[httpx.Response]:
        body = request.model_dump(exclude_unset=True, mode="json") | {"stream": stream}
        if not stream:
            body.pop("stream_options", None)
        if self._model or not body.get("model"):
            body["model"] = self._model
        try:
            # Escaped, so that any text JSON can carry arrives as it came.
            async with self._http.stream("POST", "chat/completions", content=json.dumps(body), headers=_JSON) as answer:
                if answer.status_code != 200:
                    raise _refusal(answer, await _read(answer))
                yield answer
        except httpx.TimeoutException as error:
            raise TimedOut("the chat upstream did not answer in time") from error
        except httpx.HTTPError as error:
            raise Unavailable("the chat upstream cannot be reached at the moment", retry_after=5) from error


async def _read(answer: httpx.Response) -> bytes:
    content = b""
    async for part in answer.aiter_bytes():
        content += part
        if len(content) > MAX_BYTES:
            raise BackendFailed("the chat upstream's answer is too long")
    return content


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    waiting = b""
    async for part in answer.aiter_bytes():
        *whole, waiting = (waiting + part).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
        if len(waiting) > MAX_LINE_BYTES:
            raise BackendFailed("the chat upstream sent an event that is too long")
    if waiting:
        yield waiting


def _parsed(content: bytes) -> Json:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BackendFailed("the chat upstream did not answer in JSON")
    return found


def _refusal(answer: httpx.Response, content: bytes) -> ApiError:
    """Return what the caller is told: their own faults in the upstream's words, all others in ours."""
    match answer.status_code:
        case 400 | 413 | 422:
            try:
                return InvalidValue(f"the chat upstream refused the request: {_message(_parsed(content))}")
            except BackendFailed:
                return InvalidValue("the chat upstream refused the request")
        case 429:
            wait = answer.headers.get("retry-after", "")
            return RateLimited("the chat upstream is busy", retry_after=int(wait) if wait.isdecimal() else 2)
        case 503:
            return Unavailable("the chat upstream is not available at the moment", retry_after=5)
        case status:
            return BackendFailed(f"the chat upstream answered with status {status}")


def _message(found: dict[str, Any]) -> str:
    error = found.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "no reason given")[:500]
