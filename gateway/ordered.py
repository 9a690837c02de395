"""Several streams made side by side and heard one after the other."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def in_order(
    streams: Sequence[AsyncGenerator[T, None]], at_once: int, *, staggered: bool
) -> AsyncGenerator[T, None]:
    """Give what `streams` give, one stream after the other, while later ones are made already.

    Args:
        streams: none has begun; all are closed at the end.
        at_once: streams that are made at the same time.
        staggered: each begins when the one before has given something, so that none delays the first thing of all.
    """
    turns = asyncio.Semaphore(at_once)
    made: list[asyncio.Queue[T | None]] = [asyncio.Queue() for _ in streams]
    begun = [asyncio.Event() for _ in streams]

    async def make(number: int) -> None:
        try:
            if staggered and number:
                await begun[number - 1].wait()
            async with turns, aclosing(streams[number]) as stream:
                async for item in stream:
                    made[number].put_nowait(item)
                    begun[number].set()
        finally:
            begun[number].set()
            made[number].put_nowait(None)

    tasks = [asyncio.create_task(make(number)) for number in range(len(streams))]
    try:
        for task, queue in zip(tasks, made, strict=True):
            while (item := await queue.get()) is not None:
                yield item
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
