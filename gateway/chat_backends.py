"""Who answers conversations: the chat model in Triton, or any upstream that speaks OpenAI's API."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from client.chat import MODEL, ChatJob, Piece, TritonChat
from client.errors import SpeechError
from gateway.chat_schemas import ChatCompletionRequest, ChatMessage
from gateway.errors import InvalidValue, Unavailable, from_neighbour

Json = dict[str, Any]


@dataclass(frozen=True)
class ChatModel:
    """What answers."""

    id: str
    description: str
    owned_by: str


class ChatBackend(Protocol):
    """Answers conversations. Every method may raise `ApiError`."""

    async def describe(self) -> ChatModel | None:
        """Return what answers, `None` where nothing does now."""
        ...

    async def complete(self, request: ChatCompletionRequest) -> Json:
        """Return OpenAI's `chat.completion`."""
        ...

    def stream(self, request: ChatCompletionRequest) -> AsyncGenerator[Json, None]:
        """Give OpenAI's `chat.completion.chunk`s; closing the generator before its end stops the work."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class LocalChat:
    """The model `chat` of Triton.

    Args:
        chat: the way to it.
    """

    def __init__(self, chat: TritonChat):
        self._chat = chat

    async def describe(self) -> ChatModel | None:
        """See `ChatBackend`."""
        try:
            known = await self._chat.describe()
        except SpeechError:
            return None
        return None if known is None else ChatModel(known["model"], known["description"], "step-audio-triton")

    async def complete(self, request: ChatCompletionRequest) -> Json:
        """See `ChatBackend`."""
        head, job = await self._head(), _job(request)
        answers = await asyncio.gather(*(self._whole(job) for _ in range(request.n or 1)))
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": last.finish_reason,
            }
            for index, (text, last) in enumerate(answers)
        ]
        written = sum(last.answer_tokens for _, last in answers)
        usage = _usage(answers[0][1].prompt_tokens, written)
        return {**head, "object": "chat.completion", "choices": choices, "usage": usage, "system_fingerprint": None}

    async def stream(self, request: ChatCompletionRequest) -> AsyncGenerator[Json, None]:
        """See `ChatBackend`."""
        if (request.n or 1) > 1:
            raise InvalidValue("n: a stream holds one answer", param="n")
        job = _job(request)
        counted = request.stream_options is not None and request.stream_options.include_usage
        common = {**await self._head(), "object": "chat.completion.chunk", "system_fingerprint": None}
        common |= {"usage": None} if counted else {}

        def chunk(delta: Json, reason: str | None = None) -> Json:
            return {
                **common,
                "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
            }

        async with aclosing(self._pieces(job)) as pieces:
            started = False
            async for piece in pieces:
                if not started:  # with the first piece, so that a refusal can still be one
                    started = True
                    yield chunk({"role": "assistant", "content": ""})
                if piece.text:
                    yield chunk({"content": piece.text})
                if piece.finish_reason is not None:
                    yield chunk({}, piece.finish_reason)
                    if counted:
                        yield {**common, "choices": [], "usage": _usage(piece.prompt_tokens, piece.answer_tokens)}

    async def close(self) -> None:
        """See `ChatBackend`."""
        await self._chat.close()

    async def _head(self) -> Json:
        known = await self.describe()
        if known is None:
            raise Unavailable(f"the model {MODEL} is not loaded, or cannot be reached at the moment", retry_after=5)
        return {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": known.id}

    async def _pieces(self, job: ChatJob) -> AsyncGenerator[Piece, None]:
        try:
            async with aclosing(self._chat.answer(job)) as pieces:
                async for piece in pieces:
                    yield piece
        except SpeechError as error:
            raise from_neighbour(error, MODEL, {}) from error

    async def _whole(self, job: ChatJob) -> tuple[str, Piece]:
        texts, last = [], Piece("")
        async with aclosing(self._pieces(job)) as pieces:
            async for piece in pieces:
                texts.append(piece.text)
                last = piece
        return "".join(texts), last


def _usage(prompt: int, written: int) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _job(request: ChatCompletionRequest) -> ChatJob:
    """Return the request as the local model takes it.

    Raises:
        InvalidValue: it asks for what only an upstream may have.
    """
    kind = (request.response_format or {}).get("type", "text")
    lacking = {
        "tools": bool(request.tools),
        "logprobs": bool(request.logprobs),
        "response_format": kind != "text",
        "modalities": bool(set(request.modalities or ["text"]) - {"text"}),
    }
    for field, asked in lacking.items():
        if asked:
            raise InvalidValue(f"{field}: the local chat model writes plain text only", param=field)
    limits = [limit for limit in (request.max_completion_tokens, request.max_tokens) if limit is not None]
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    # A share of nothing still holds the likeliest token.
    top_p = None if request.top_p is None else max(request.top_p, 1e-6)
    messages = [_message(number, message) for number, message in enumerate(request.messages)]
    return ChatJob(messages, request.temperature, top_p, min(limits) if limits else None, stop)


def _message(number: int, message: ChatMessage) -> dict[str, str]:
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    if not isinstance(message.content, list):
        return {"role": role, "content": message.content or ""}
    for place, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            where = f"messages.{number}.content.{place}"
            raise InvalidValue(f"{where}: the local chat model reads text only", param=where)
    return {"role": role, "content": "".join(part.text or "" for part in message.content)}


def sse(content: Json) -> bytes:
    """Return a server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
