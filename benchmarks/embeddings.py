"""Short texts one by one against all at once, through Triton's `text_embedder` and the gateway.

`python -m benchmarks.embeddings` starts a Triton with that model alone; `--grpc host:port --url http://…` measures what
runs.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.served import served
from client.embedding import MODEL, EmbeddingOptions, TritonEmbedder
from server.settings import ROOT

WORDS = ("red", "green", "quiet", "late", "small", "warm", "lost", "new")
THINGS = ("cat", "train", "song", "river", "garden", "letter", "engine", "window")
TEXTS = [f"the {word} {thing}" for word in WORDS for thing in THINGS]
"""64 texts of three words."""
WANTED = 2.0
Ask = Callable[[list[str]], Awaitable[object]]

console = Console(width=110)


async def measure(ask: Ask, rounds: int) -> tuple[float, float, float]:
    """Return median seconds for all texts one by one, in requests sent at once, and in one request."""
    await asyncio.gather(*(ask([text]) for text in TEXTS))  # both ways warm
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(rounds):
        started = time.perf_counter()
        for text in TEXTS:
            await ask([text])
        times[0].append(time.perf_counter() - started)
        started = time.perf_counter()
        await asyncio.gather(*(ask([text]) for text in TEXTS))
        times[1].append(time.perf_counter() - started)
        started = time.perf_counter()
        await ask(TEXTS)
        times[2].append(time.perf_counter() - started)
    one, many, single = (statistics.median(seconds) for seconds in times)
    return one, many, single


async def compare(grpc: str, url: str, rounds: int) -> float:
    """Print the table and return how much faster requests sent at once are through Triton."""
    embedder = TritonEmbedder(grpc)

    async def through_triton(texts: list[str]) -> object:
        return await embedder.embed(texts, EmbeddingOptions())

    rows = {"Triton, gRPC": await measure(through_triton, rounds)}
    await embedder.close()
    if url:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:

            async def through_gateway(texts: list[str]) -> object:
                body = {"model": "any", "input": texts, "encoding_format": "base64"}
                return (await http.post("/v1/embeddings", json=body)).raise_for_status()

            rows["gateway, HTTP"] = await measure(through_gateway, rounds)
    table = Table(title=f"{len(TEXTS)} texts of three words, median of {rounds} rounds, texts per second")
    for head in ("through", "one by one", "64 requests at once", "gain", "one request of 64", "gain"):
        table.add_column(head, justify="left" if head == "through" else "right")
    for name, (one, many, single) in rows.items():
        rates = [f"{len(TEXTS) / seconds:.0f}" for seconds in (one, many, single)]
        table.add_row(name, rates[0], rates[1], f"{one / many:.1f}×", rates[2], f"{one / single:.1f}×")
    console.print(table)
    one, many, _ = rows["Triton, gRPC"]
    return one / many


def main(
    grpc: Annotated[str, typer.Option(help="Host and port of a running Triton's gRPC; empty starts one.")] = "",
    url: Annotated[str, typer.Option(help="Address of its gateway; empty measures Triton alone.")] = "",
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 9,
) -> None:
    """Measure, and fail where batching does not double the throughput."""
    if grpc:
        gain = asyncio.run(compare(grpc, url, rounds))
    else:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / MODEL).symlink_to(ROOT / "model_repository" / MODEL)
            with served(Path(folder), {}, "--no-gateway") as addresses:
                gain = asyncio.run(compare(addresses.triton, "", rounds))
    console.print(f"64 requests at once: {gain:.1f}× the throughput of one by one; at least {WANTED:.0f}× is wanted")
    raise typer.Exit(0 if gain >= WANTED else 1)


if __name__ == "__main__":
    typer.run(main)
