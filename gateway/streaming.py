"""Bytes that one task makes while another sends them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

# Proxies that collect an answer before they pass it on would undo the streaming.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ByteStream:
    """What its maker `put`s, in order. Whoever has started it must `close` it."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._maker: asyncio.Task[None] | None = None
        self._first: bytes | None = None

    def put(self, chunk: bytes) -> None:
        """Add bytes; none at all is fine."""
        if chunk:
            self._chunks.put_nowait(chunk)

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` make the bytes; return when the first are there, raise what it raises before that."""
        self._maker = asyncio.create_task(work)
        self._maker.add_done_callback(lambda _: self._chunks.put_nowait(None))
        try:
            self._first = await self._chunks.get()
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._first is None:
            await self._maker

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes as they come; raise at the end what their maker raised."""
        chunk = self._first
        while chunk is not None:
            yield chunk
            chunk = await self._chunks.get()
        if self._maker is not None:
            await self._maker

    async def close(self) -> None:
        """Stop the maker."""
        if self._maker is not None:
            self._maker.cancel()
            await asyncio.gather(self._maker, return_exceptions=True)


class LiveResponse(StreamingResponse):
    """Sends `content`, made of `body`, as it comes, and closes `body` as soon as the caller hangs up."""

    def __init__(
        self, body: ByteStream, content: AsyncIterator[bytes | str], media_type: str, headers: Mapping[str, str]
    ):
        super().__init__(content, media_type=media_type, headers={**headers, **_HEADERS})
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it; who hung up before the first byte stops the work as well."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._body.close()
