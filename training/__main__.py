"""`python -m training run`: every stage in order; a stage that is done is left alone, one that was stopped goes on."""

import contextlib
import functools
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from training import flow, linguistic, llm, mels, pack, recognizer, semantic, speaker, tokens, vocoder
from training.corpus import build
from training.corpus.takes import Amounts
from training.dataset import Corpus
from training.pairs import Pairs

AMOUNTS = Amounts(plain=500, edited=90, held_out=10)
PACKING = ("tokenizers", "tokens", "pack")

app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def main() -> None:
    """Train the demo checkpoint."""


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder of the finished checkpoint.")],
    work: Annotated[Path, typer.Option(help="Folder of the corpus and of what is half learnt.")] = Path("build/train"),
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; may be given several times.")] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that speak and tokenize.")] = multiprocessing.cpu_count(),
    effort: Annotated[float, typer.Option(min=0.0001, help="Factor on the steps of every stage.")] = 1.0,
) -> None:
    """Make the corpus, train every network and write the checkpoint."""
    console = Console()
    corpus_folder = work / "corpus"
    place = torch.device(device)
    torch.set_default_device(place)

    @functools.cache
    def corpus() -> Corpus:
        return Corpus(corpus_folder)

    @functools.cache
    def pairs() -> Pairs:
        return Pairs(corpus(), work)

    stages: dict[str, Callable[[], None]] = {
        "corpus": lambda: build.build(corpus_folder, AMOUNTS, seed=0, workers=workers),
        "mels": lambda: mels.run(corpus_folder, work, workers),
        "linguistic": lambda: linguistic.run(corpus(), work, place, effort),
        "semantic": lambda: semantic.run(corpus(), work, place, effort),
        "speaker": lambda: speaker.run(corpus(), work, place, effort),
        "recognizer": lambda: recognizer.run(corpus(), work, place, effort),
        "tokenizers": lambda: pack.tokenizers(work, out),
        "tokens": lambda: tokens.run(corpus_folder, out, work, workers),
        "vocoder": lambda: vocoder.run(corpus(), work, place, effort),
        "flow": lambda: flow.run(pairs(), work, place, effort),
        "llm": lambda: llm.run(pairs(), work, place, effort),
        "pack": lambda: pack.run(work, out, console),
    }
    unknown = set(stage or ()) - set(stages)
    if unknown:
        raise typer.BadParameter(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(stages)}")
    work.mkdir(parents=True, exist_ok=True)
    for name in stage or stages:
        done = work / f"{name}.done"
        if done.exists() and not stage:
            console.print(f"  {name}: done before")
            continue
        console.rule(name)
        started = time.monotonic()
        # The packing runs on the CPU, whatever trained.
        with torch.device("cpu") if name in PACKING else contextlib.nullcontext():
            stages[name]()
        done.touch()
        line = {"stage": name, "minutes": round((time.monotonic() - started) / 60, 2), "device": device}
        with (work / "stages.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        console.print(f"  {name}: {line['minutes']} minutes")


if __name__ == "__main__":
    app()
