"""First audio and real-time factor of many streams at the released sizes: `python -m benchmarks.streaming_released`.

Made for a machine with a GPU. Writes a checkpoint of the released dimensions with random weights and exports it (once,
about 25 GB of disk), starts a server on it, and keeps 1, 4, 8, 16 and 32 streams under way in turn.
"""

import asyncio
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.running import Running, started
from client.load.report import Report, summarise, table
from client.load.run import closed_loop
from client.load.targets import Triton
from client.load.workload import one_of_each_voice, utterances
from export.demo.checkpoint import write_checkpoint
from export.demo.llm import write_llm

ROOT = Path(__file__).resolve().parent.parent
SEED = 2025
GROUP_SECONDS, GROUP_TOKENS = 0.12, 5
WIDTH = 150
console = Console(width=None if sys.stdout.isatty() else WIDTH)


class Size(StrEnum):
    """Dimensions of a random checkpoint."""

    released = "released"
    demo = "demo"


def main(
    streams: Annotated[list[int] | None, typer.Option(min=1, help="Streams at once; default 1, 4, 8, 16, 32.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of what is said.")] = 6.0,
    rounds: Annotated[int, typer.Option(min=1, help="Requests of each stream.")] = 4,
    size: Annotated[Size, typer.Option(help="Of the random checkpoint; demo is for a trial.")] = Size.released,
    folder: Annotated[Path, typer.Option(help="Where the models are made; kept for the next run.")] = ROOT
    / "build"
    / "random",
    load_timeout: Annotated[float, typer.Option(help="Seconds that loading may take.")] = 1800.0,
) -> None:
    """Measure streams at the released sizes."""
    repository = _repository(folder / size.value, size)
    options = ["--model-repository", str(repository), "--load-timeout", str(load_timeout)]
    max_tokens = round(seconds / GROUP_SECONDS) * GROUP_TOKENS
    with started(console, *options, gateway=False) as server:
        rows = asyncio.run(_measure(server, streams or [1, 4, 8, 16, 32], rounds, max_tokens))
    console.print(table(rows, f"{size.value} sizes, random weights, {seconds:g} s of speech"))


def _repository(folder: Path, size: Size) -> Path:
    """Return the model repository with weights of `size`, made by the first call."""
    repository = folder / "model_repository"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        weights = shutil.ignore_patterns("*.onnx", "*.safetensors", "*.json", "*.model", "*.plan")
        shutil.copytree(ROOT / "model_repository", repository, ignore=weights)
        checkpoint = folder / "checkpoint"
        write_checkpoint(checkpoint, size.value, SEED, console)
        write_llm(checkpoint / "Step-Audio-EditX", size.value, SEED)
        build = ["build", "--checkpoint", str(checkpoint), "--model-repository", str(repository)]
        subprocess.run([sys.executable, "-m", "export", *build], cwd=ROOT, check=True)
        (folder / "complete").touch()
    return repository


async def _measure(server: Running, levels: list[int], rounds: int, max_tokens: int) -> list[tuple[str, Report]]:
    rows = []
    async with Triton(server.grpc) as target:
        await closed_loop(target, one_of_each_voice(max_tokens), 1, lambda _: None)
        for level in levels:
            found = await closed_loop(target, utterances(rounds * level, max_tokens), level, lambda _: None)
            rows.append((f"{level} streams", summarise(found)))
    return rows


if __name__ == "__main__":
    typer.run(main)
