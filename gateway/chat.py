"""Conversations: bounded in number and time, whoever answers them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from client.chat import MODEL
from gateway.chat_backends import ChatBackend, ChatModel, Json, LocalChat
from gateway.chat_schemas import ChatCompletionRequest
from gateway.errors import TimedOut, Unavailable
from gateway.metrics import Metrics
from gateway.permits import Permits

CONVERSATIONS_AT_ONCE = 64
CONVERSATIONS_WAITING = 128
_UNSUPPORTED = ("presence_penalty", "frequency_penalty", "seed")


class ChatService:
    """Serves many conversations at once.

    Args:
        backend: who answers; without one every request is refused as unavailable.
        timeout_seconds: for a whole answer.
        metrics: shows how many there are.
    """

    def __init__(self, backend: ChatBackend | None, timeout_seconds: float, metrics: Metrics):
        self._backend = backend
        self._seconds = timeout_seconds
        self._permits = Permits(CONVERSATIONS_AT_ONCE, CONVERSATIONS_WAITING)
        metrics.watch("active_conversations", "Chat requests worked on.", lambda: self._permits.active)

    async def models(self) -> Mapping[str, tuple[str, str]]:
        """Return the name to ask for the model by, with its owner and what it is; none if none answers."""
        known = await self.model()
        return {} if known is None else {known.id: (known.owned_by, known.description)}

    async def model(self) -> ChatModel | None:
        """Return what answers, `None` where nothing does now."""
        return None if self._backend is None else await self._backend.describe()

    async def complete(self, request: ChatCompletionRequest) -> Json:
        """Return OpenAI's `chat.completion`.

        Raises:
            ApiError: refused or failed.
        """
        async with self._taken_on():
            return await self._answerer().complete(request)

    async def stream(self, request: ChatCompletionRequest) -> AsyncGenerator[Json, None]:
        """Give OpenAI's `chat.completion.chunk`s.

        Raises:
            ApiError: refused, or failed, perhaps after some chunks.
        """
        async with self._taken_on(), aclosing(self._answerer().stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    def warnings(self, request: ChatCompletionRequest) -> list[str]:
        """Return what the backend leaves out of `request`."""
        if not isinstance(self._backend, LocalChat):
            return []
        return [f"{field} is left out by the local chat model" for field in _UNSUPPORTED if getattr(request, field)]

    def _answerer(self) -> ChatBackend:
        if self._backend is None:
            raise Unavailable(f"no upstream is set, and the model {MODEL} is not served")
        return self._backend

    @asynccontextmanager
    async def _taken_on(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds), self._permits.one():
                yield
        except TimeoutError:
            raise TimedOut(f"the answer was not ready within {self._seconds:g} s") from None
