"""`python -m export`: fetch a released checkpoint, make a demo one, and turn either into Triton's model repository."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(help="From a released checkpoint to the files Triton loads.", no_args_is_help=True)
console = Console()

MODEL_REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"
RepositoryOption = Annotated[Path, typer.Option("--model-repository", help="Folder with one sub-folder per model.")]


class Size(StrEnum):
    """How large a random checkpoint is."""

    demo = "demo"
    released = "released"


class Variant(StrEnum):
    """4-bit forms of the language model."""

    bnb = "bnb"
    awq = "awq"


class Hub(StrEnum):
    """Where released checkpoints are published."""

    huggingface = "huggingface"
    modelscope = "modelscope"


class Neighbour(StrEnum):
    """The services beside speech whose model is a Hugging Face checkpoint."""

    chat = "chat"
    text_embedder = "text_embedder"


@app.command()
def build(
    checkpoint: Annotated[Path, typer.Option(help="Folder of the released checkpoints, or of one of them.")],
    model_repository: RepositoryOption = MODEL_REPOSITORY,
    only: Annotated[list[str] | None, typer.Option(help="Only this model; may be given several times.")] = None,
    force: Annotated[bool, typer.Option(help="Export again what is already up to date.")] = False,
) -> None:
    """Fill model_repository/*/1 from a checkpoint; what is up to date is left alone, so a broken run can go on."""
    from export.build import BuildError
    from export.build import build as build_models
    from export.checkpoint import CheckpointError

    try:
        build_models(checkpoint, model_repository, only or [], force, console)
    except (BuildError, CheckpointError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("build/demo-checkpoint"),
    size: Annotated[Size, typer.Option(help="`released`: the released sizes for all but the LLM.")] = Size.demo,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 2025,
) -> None:
    """Write a small random checkpoint in the released layout: everything runs, the sound is noise."""
    from export.demo.checkpoint import write_checkpoint

    write_checkpoint(out, size.value, seed, console)


@app.command()
def fetch(
    out: Annotated[Path, typer.Option(help="Folder to download into.")] = Path("checkpoints/released"),
    hub: Annotated[Hub, typer.Option(help="Where to download from.")] = Hub.huggingface,
    awq: Annotated[bool, typer.Option("--awq", help="Also the language model in 4 bits.")] = False,
) -> None:
    """Download the released checkpoints (about 10 GB) with progress; run again to resume."""
    from export.fetch import fetch as fetch_checkpoints

    fetch_checkpoints(out, hub.value, awq, console)


@app.command()
def quantise(
    checkpoint: Annotated[Path, typer.Option(help="Folder that holds the language model, or it in a sub-folder.")],
    variant: Annotated[Variant, typer.Option(help="`awq` only rounds: for trials, the released one is better.")],
) -> None:
    """Write the language model in 4 bits into a folder beside its own; `build` then exports both."""
    from export.checkpoint import Checkpoint, CheckpointError
    from export.quantise import FOLDERS
    from export.quantise import quantise as write_quantised

    try:
        source = Checkpoint.open(checkpoint).require("llm_dir")
        target = source.parent / FOLDERS[variant.value]
        with console.status(f"writing {target} …"):
            write_quantised(source, target, variant.value)
    except CheckpointError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    size = sum(path.stat().st_size for path in target.iterdir())
    console.print(f"{target}: {size / 1e6:,.1f} MB. Next: python -m export build --checkpoint {target.parent}")


@app.command()
def defaults(model_repository: RepositoryOption = MODEL_REPOSITORY) -> None:
    """Export the default chat model and text embedder, where there is none of your own."""
    from export.checkpoint import CheckpointError
    from export.neighbours import export_defaults

    try:
        export_defaults(model_repository, console)
    except CheckpointError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error


@app.command()
def neighbour(
    model: Annotated[Neighbour, typer.Argument(help="Which service it is for.")],
    checkpoint: Annotated[Path, typer.Option(help="Folder of a Hugging Face checkpoint.")],
    name: Annotated[str | None, typer.Option(help="What to call the model; by default its folder's name.")] = None,
    model_repository: RepositoryOption = MODEL_REPOSITORY,
) -> None:
    """Export a checkpoint of your own as the chat model or the text embedder."""
    from export.checkpoint import CheckpointError
    from export.neighbours import export_own

    try:
        export_own(model.value, checkpoint, name, model_repository, console)
    except CheckpointError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error


@app.command()
def tensorrt(
    model_repository: RepositoryOption = MODEL_REPOSITORY,
    only: Annotated[list[str] | None, typer.Option(help="Only this model; may be given several times.")] = None,
    trtexec: Annotated[str, typer.Option(help="The trtexec program.")] = "trtexec",
) -> None:
    """Build TensorRT plans on this machine's GPU and switch the models that have one to them."""
    from export.tensorrt import build_plans

    build_plans(model_repository, only or [], trtexec, console)


if __name__ == "__main__":
    app()
