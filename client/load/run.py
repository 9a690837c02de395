"""Sending requests: as many at once as asked for, or at random moments whatever the answers do."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

from client.load.playback import Playback
from client.load.report import Outcome
from client.load.targets import Failed, Target
from client.load.workload import Utterance

Done = Callable[[Outcome], None]


async def closed_loop(target: Target, utterances: Sequence[Utterance], concurrency: int, done: Done) -> list[Outcome]:
    """Keep `concurrency` requests under way until all are answered: each answer lets the next request start.

    Args:
        target: speaks.
        utterances: one for each request, in order.
        concurrency: requests under way.
        done: is told of each outcome.
    """
    waiting, started = iter(utterances), time.perf_counter()
    outcomes: list[Outcome] = []

    async def listener() -> None:
        for utterance in waiting:
            outcome = await _listen(target, utterance, started, time.perf_counter() - started)
            outcomes.append(outcome)
            done(outcome)

    async with asyncio.TaskGroup() as listeners:
        for _ in range(concurrency):
            listeners.create_task(listener())
    return outcomes


async def open_loop(
    target: Target, utterances: Sequence[Utterance], rate: float, done: Done, seed: int = 0
) -> list[Outcome]:
    """Send requests at random moments, `rate` a second on average (Poisson), whether earlier ones are answered or not.

    Args:
        target: speaks.
        utterances: one for each request, in order.
        rate: requests per second.
        done: is told of each outcome.
        seed: of the moments.
    """
    gaps = random.Random(seed)  # noqa: S311
    started, due = time.perf_counter(), 0.0

    async def listener(utterance: Utterance, due: float) -> Outcome:
        outcome = await _listen(target, utterance, started, due)
        done(outcome)
        return outcome

    async with asyncio.TaskGroup() as listeners:
        tasks = []
        for utterance in utterances:
            await asyncio.sleep(due - (time.perf_counter() - started))
            tasks.append(listeners.create_task(listener(utterance, due)))
            due += gaps.expovariate(rate)
    return [task.result() for task in tasks]


async def _listen(target: Target, utterance: Utterance, started: float, due: float) -> Outcome:
    playback, error = Playback(), ""
    try:
        async with aclosing(target.speak(utterance)) as parts:
            async for seconds in parts:
                playback.take(time.perf_counter() - started, seconds)
    except Failed as failure:
        error = str(failure)
    ended = time.perf_counter() - started
    return Outcome(due, playback.first_at, ended, playback.seconds, playback.stall, error)
