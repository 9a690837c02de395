"""`step-audio load`: how a server holds up under many listeners."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client.load.report import Outcome, summarise, table
from client.load.run import Done, closed_loop, open_loop
from client.load.targets import Gateway, Target, Triton
from client.load.workload import one_of_each_voice, utterances
from client.triton import DEFAULT_URL

_WIDTH = 160  # of a table that goes to a file


def load(
    closed: Annotated[list[int] | None, typer.Option(min=1, help="Requests kept under way; may be repeated.")] = None,
    open_: Annotated[
        list[float] | None,
        typer.Option("--open", min=0.01, help="Requests per second at random moments; may be repeated."),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests in each run.")] = 32,
    max_tokens: Annotated[
        int | None, typer.Option(min=5, help="Budget of audio tokens, 5 for 0.12 s; unset: the model's own.")
    ] = None,
    gateway: Annotated[str, typer.Option(help="Load this gateway over HTTP, such as http://127.0.0.1:7860.")] = "",
    key: Annotated[str, typer.Option(envvar="GATEWAY_API_KEY", help="Bearer key of the gateway.")] = "",
    url: Annotated[str, typer.Option(envvar="GATEWAY_TRITON_URL", help="Else Triton's gRPC end point.")] = DEFAULT_URL,
    variant: Annotated[str, typer.Option(help="Weights: base, bnb or awq.")] = "base",
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for every request's times.")] = None,
) -> None:
    """Measure first audio, real-time factor and unbroken playback under load.

    Speaks a fixed set of Chinese and English texts in the built-in voices. A request is continuous at 50, 100 or 200 ms
    when its playback, begun with the first sound, stood still for no longer than that, all pauses together.
    """
    try:
        target: Target = Gateway(gateway, key, variant) if gateway else Triton(url, variant)
    except ImportError as error:
        raise typer.BadParameter("--gateway needs the package httpx") from error
    runs = [("closed", float(level)) for level in closed or ()] + [("open", rate) for rate in open_ or ()]
    outcomes = asyncio.run(_measure(target, runs or [("closed", 1.0)], requests, max_tokens, seed))
    rows = [(name, summarise(found)) for name, found in outcomes.items()]
    console = Console()
    Console(width=None if console.is_terminal else _WIDTH).print(table(rows, gateway or url))
    if out is not None:
        out.write_text(json.dumps({name: [asdict(outcome) for outcome in found] for name, found in outcomes.items()}))
    if all(report.requests == sum(report.errors.values()) for _, report in rows):
        raise typer.Exit(1)


async def _measure(
    target: Target, runs: list[tuple[str, float]], requests: int, max_tokens: int | None, seed: int
) -> dict[str, list[Outcome]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes: dict[str, list[Outcome]] = {}
    async with target:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            warm_up = one_of_each_voice(max_tokens)
            await closed_loop(target, warm_up, 1, _bar(progress, "warm-up", len(warm_up)))
            for kind, level in runs:
                name, wanted = f"{kind} {level:g}", utterances(requests, max_tokens)
                bar = _bar(progress, name, requests)
                if kind == "closed":
                    outcomes[name] = await closed_loop(target, wanted, int(level), bar)
                else:
                    outcomes[name] = await open_loop(target, wanted, level, bar, seed)
    return outcomes


def _bar(progress: Progress, name: str, total: int) -> Done:
    bar = progress.add_task(name, total=total)

    def advance(_: Outcome) -> None:
        progress.advance(bar)

    return advance
