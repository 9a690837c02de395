"""The models beside speech, text embedder and chat: from a Hugging Face checkpoint, with defaults to start with."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from export import chat, sentence_model, text_embedder
from export.build import write_stamped

OWN = "own.json"
"""File beside a model that someone exported from a checkpoint of their choice: defaults do not replace it."""
BUILD = Path("build")


@dataclass(frozen=True)
class Neighbour:
    """One such model.

    Args:
        model: its folder in the model repository.
        name: what the default calls itself.
        default: returns the folder of the default checkpoint, fetched where need be.
        write: exports a checkpoint into a folder under a name.
    """

    model: str
    name: str
    default: Callable[[], Path]
    write: Callable[[Path, Path, str | None], None]


def _sentence_model() -> Path:
    folder = BUILD / "all-MiniLM-L6-v2"
    sentence_model.fetch(folder)
    return folder


NEIGHBOURS = {
    neighbour.model: neighbour
    for neighbour in (
        Neighbour("text_embedder", sentence_model.NAME, _sentence_model, text_embedder.export),
        Neighbour("chat", chat.DEFAULT_NAME, lambda: chat.DEFAULT_CHECKPOINT, chat.export),
    )
}


def export_own(model: str, checkpoint: Path, name: str | None, model_repository: Path, console: Console) -> None:
    """Export `checkpoint` as `model`, under `name` or its folder's.

    Raises:
        CheckpointError: it cannot be used.
    """
    destination = model_repository / model / "1"
    called = name or checkpoint.resolve().name

    def write(work: Path) -> None:
        NEIGHBOURS[model].write(checkpoint, work, called)
        (work / OWN).write_text(json.dumps({"model": called}) + "\n")

    write_stamped(model, write, _sources(checkpoint), destination, force=True, console=console)


def export_defaults(model_repository: Path, console: Console) -> None:
    """Export the default of every neighbour that nobody has exported from a checkpoint of their own.

    A default that cannot be downloaded is left out: the system runs without it.

    Raises:
        CheckpointError: a checkpoint cannot be used.
    """
    for neighbour in NEIGHBOURS.values():
        destination = model_repository / neighbour.model / "1"
        if (destination / OWN).exists():
            console.print(f"  {neighbour.model}: a checkpoint of your own, left as it is")
            continue
        try:
            checkpoint = neighbour.default()
        except sentence_model.FetchError as error:
            console.print(f"  {neighbour.model}: left out, {error}", markup=False)
            continue

        def write(work: Path, neighbour: Neighbour = neighbour, checkpoint: Path = checkpoint) -> None:
            neighbour.write(checkpoint, work, neighbour.name)

        write_stamped(neighbour.model, write, _sources(checkpoint), destination, force=False, console=console)


def _sources(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())
