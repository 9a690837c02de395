"""What the gateway adds to a call of Triton: `python -m benchmarks.gateway_overhead`.

The model behind it does nothing, so a request over gRPC costs what Triton and the transfer cost. The ways take turns,
request by request, so that whatever else the machine does meets all of them alike.
"""

import asyncio
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.null_model import write_repository
from benchmarks.served import served
from client.speech import Clip, SpeechJob
from client.triton import TritonSpeech
from gateway.voices import VoiceLibrary

TEXT = "Hello there."
FORMATS = ("pcm", "wav", "mp3", "opus")
console = Console(width=110)


def main(
    requests: Annotated[int, typer.Option(help="Requests each way.")] = 500,
    connections: Annotated[int, typer.Option(help="Requests under way at once, for the rate.")] = 8,
    seconds: Annotated[float, typer.Option(help="How long the rate is measured.")] = 15.0,
) -> None:
    """Measure latencies over gRPC and through the gateway, and how many requests a minute it serves."""
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder))
        with served(Path(folder), {}) as addresses:
            latencies = measure_latencies(addresses.triton, addresses.gateway, requests)
            rate, of_many = measure_rate(addresses.gateway, connections, seconds)
    direct = percentile(latencies["gRPC"], 50)
    table = Table("request", "p50 ms", "p95 ms", "p99 ms", "p50 over gRPC", title="One second of speech from nothing")
    for way, spent in latencies.items():
        cells = [f"{percentile(spent, percent):.2f}" for percent in (50, 95, 99)]
        table.add_row(way, *cells, f"{percentile(spent, 50) - direct:+.2f} ms")
    table.add_row(f"HTTP, wav, {connections} at once", *(f"{percentile(of_many, p):.2f}" for p in (50, 95, 99)), "")
    console.print(table)
    console.print(f"{60 * rate:,.0f} requests a minute, {connections} at once")


def measure_latencies(triton: str, gateway: int, requests: int) -> dict[str, list[float]]:
    """Return milliseconds of each request, by way."""
    voice = VoiceLibrary().find("happy_en")
    clip = Clip(np.array(voice.clip.waveform), voice.clip.sample_rate)
    job = SpeechJob("clone", clip, voice.prompt_text, TEXT)
    with asyncio.Runner() as runner:
        speech = TritonSpeech(triton)
        ways: dict[str, Callable[[], object]] = {"gRPC": lambda: runner.run(speech.synthesize(job))}
        connection = http.client.HTTPConnection("127.0.0.1", gateway)
        for name in FORMATS:
            ways[f"HTTP, {name}"] = lambda name=name: post(connection, name)  # type: ignore[misc]
        for way in ways.values():
            for _ in range(20):
                way()
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(requests):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                spent[name].append(1000 * (time.perf_counter() - started))
        runner.run(speech.close())
    return spent


def measure_rate(gateway: int, connections: int, seconds: float) -> tuple[float, list[float]]:
    """Return requests a second and the milliseconds of each, with `connections` that ask again at once."""
    spent: list[float] = []
    end = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway)
        while (started := time.perf_counter()) < end:
            post(connection, "wav")
            spent.append(1000 * (time.perf_counter() - started))

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(spent) / seconds, spent


def post(connection: http.client.HTTPConnection, response_format: str) -> bytes:
    """Ask for speech and return it.

    Raises:
        RuntimeError: the answer is none.
    """
    body = json.dumps({"input": TEXT, "voice": "happy_en", "response_format": response_format})
    connection.request("POST", "/v1/audio/speech", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {content[:200]!r}")
    return content


def percentile(values: list[float], percent: int) -> float:
    """Return what `percent` % of `values` do not exceed."""
    return quantiles(values, n=100)[percent - 1]


if __name__ == "__main__":
    typer.run(main)
