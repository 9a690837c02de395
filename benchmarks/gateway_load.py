"""Four times the requests that the system can serve: `python -m benchmarks.gateway_load`.

Requests come at their own times, whether earlier ones have been answered or not, each on a connection of its own. A
system that is honest under load serves what it takes on about as fast as without the crowd, and tells all others when
to come back, at once.
"""

import asyncio
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.null_model import PLACES, write_repository
from benchmarks.served import served

WORK_SECONDS = 0.25
WAITING = PLACES // 4
CAPACITY = PLACES / WORK_SECONDS
console = Console(width=110)


@dataclass(frozen=True)
class Answer:
    """What one request got: its status, seconds until its last byte, `Retry-After` where there was one, the body."""

    status: int
    seconds: float
    retry_after: str | None
    body: bytes


@dataclass(frozen=True)
class Report:
    """The same system at its capacity and at a multiple of it."""

    at_capacity: list[Answer]
    crowded: list[Answer]
    crowd_seconds: float

    @property
    def slowdown(self) -> float:
        """p95 of what was served in the crowd over p95 at capacity."""
        return p95(of_status(self.crowded, 200)) / p95(of_status(self.at_capacity, 200))

    @property
    def served_per_second(self) -> float:
        """Requests served in the crowd; `CAPACITY` is the most there can be."""
        return len(of_status(self.crowded, 200)) / self.crowd_seconds


def main(
    seconds: Annotated[float, typer.Option(help="How long the crowd comes.")] = 20.0,
    times: Annotated[float, typer.Option(help="Its size, in capacities.")] = 4.0,
) -> None:
    """Measure what callers get at capacity and at a multiple of it."""
    report = measure(seconds, times)
    table = Table("load", "served", "served/s", "p50 s", "p95 s", "429", "other", "429 told after, p95")
    for name, answers in (("at capacity", report.at_capacity), (f"{times:g}× capacity", report.crowded)):
        good, refused = of_status(answers, 200), of_status(answers, 429)
        rate = len(good) / (report.crowd_seconds if answers is report.crowded else sum_seconds(good) / PLACES)
        spent = [f"{value:.3f}" for value in (median(answer.seconds for answer in good), p95(good))]
        told = f"{1000 * p95(refused):.0f} ms" if len(refused) > 1 else ""
        others = len(answers) - len(good) - len(refused)
        table.add_row(name, str(len(good)), f"{rate:.1f}", *spent, str(len(refused)), str(others), told)
    console.print(table)
    console.print(f"capacity {CAPACITY:g} requests/s; p95 of the served grows {report.slowdown:.2f}×")
    console.print(f"Retry-After: {dict(Counter(answer.retry_after for answer in of_status(report.crowded, 429)))}")


def measure(seconds: float, times: float) -> Report:
    """Load a system whose model works on 8 requests at once, 0.25 s on each."""
    settings = {"GATEWAY_MAX_CONCURRENT": str(PLACES), "GATEWAY_MAX_WAITING": str(WAITING)}
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder), work_seconds=WORK_SECONDS)
        with served(Path(folder), settings) as addresses:
            at_capacity = asyncio.run(_at_capacity(addresses.gateway, seconds / 2))
            started = perf_counter()
            crowded = asyncio.run(_crowd(addresses.gateway, CAPACITY * times, seconds))
            return Report(at_capacity, crowded, perf_counter() - started)


def of_status(answers: list[Answer], status: int) -> list[Answer]:
    """Return the answers with `status`."""
    return [answer for answer in answers if answer.status == status]


def p95(answers: list[Answer]) -> float:
    """Return the seconds within which 95 % of `answers` were there."""
    return quantiles([answer.seconds for answer in answers], n=20)[-1]


def sum_seconds(answers: list[Answer]) -> float:
    """Return the seconds of all `answers` together."""
    return sum(answer.seconds for answer in answers)


async def _at_capacity(port: int, seconds: float) -> list[Answer]:
    """Keep every place of the model taken, and nobody waiting."""
    answers: list[Answer] = []
    end = perf_counter() + seconds

    async def ask() -> None:
        while perf_counter() < end:
            answers.append(await _post(port))

    await asyncio.gather(*(ask() for _ in range(PLACES)))
    return answers


async def _crowd(port: int, rate: float, seconds: float) -> list[Answer]:
    """Send requests at `rate` per second, whatever comes of them."""
    started = perf_counter()
    asked: list[asyncio.Task[Answer]] = []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - perf_counter()))
        asked.append(asyncio.create_task(_post(port)))
    return await asyncio.gather(*asked)


async def _post(port: int) -> Answer:
    body = json.dumps({"input": "Hello there.", "voice": "happy_en"}).encode()
    head = (
        "POST /v1/audio/speech HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    started = perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        answer = await reader.read()
    finally:
        writer.close()
    spent = perf_counter() - started
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = answer.partition(b"\r\n\r\n")[2]
    return Answer(int(first.split()[1]), spent, headers.get("retry-after"), content)


if __name__ == "__main__":
    typer.run(main)
