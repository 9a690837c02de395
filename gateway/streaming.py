"""Bytes that one task makes while another sends them."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any


class ByteStream:
    """What its maker `put`s, in order. Whoever iterates over it must do so to the end or close the iterator."""

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
            await self._stop()
            raise
        if self._first is None:
            await self._maker

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """Give the bytes as they come; raise at the end what their maker raised."""
        chunk = self._first
        try:
            while chunk is not None:
                yield chunk
                chunk = await self._chunks.get()
            if self._maker is not None:
                await self._maker
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._maker is not None:
            self._maker.cancel()
            await asyncio.gather(self._maker, return_exceptions=True)
