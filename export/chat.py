"""A Hugging Face chat checkpoint into the model repository: its files as they are, checked."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from export.checkpoint import CheckpointError
from python_backend.chat.description import Description

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "chat"
DEFAULT_NAME = "step-audio-triton/tiny-chat"
WANTED = ("config.json", "tokenizer.json", "tokenizer_config.json")
OPTIONAL = ("generation_config.json", "chat_template.jinja", "special_tokens_map.json", "model.safetensors.index.json")
NOTE = "description.txt"


def export(checkpoint: Path, destination: Path, name: str | None = None) -> None:
    """Place configuration, weights, tokenizer and chat template of `checkpoint` in the folder `destination`.

    The weights are hard links where both folders are on one file system, so they take no further space. Nothing of
    the checkpoint is run as code: one that needs code of its own is refused.

    Args:
        checkpoint: its folder.
        destination: folder to write into.
        name: what to call the model; by default what the checkpoint's folder is called.

    Raises:
        CheckpointError: a file is missing, or transformers does not know the model by itself.
    """
    missing = [file for file in WANTED if not (checkpoint / file).is_file()]
    weights = sorted(checkpoint.glob("*.safetensors"))
    if missing or not weights:
        raise CheckpointError(f"{checkpoint}: no {', '.join(missing or ['*.safetensors'])}")
    config = _json(checkpoint / "config.json")
    settings = _json(checkpoint / "tokenizer_config.json")
    if "auto_map" in config or "auto_map" in settings:
        raise CheckpointError(f"{checkpoint} brings code of its own, which is never run here")
    if not settings.get("chat_template") and not (checkpoint / "chat_template.jinja").is_file():
        raise CheckpointError(f"{checkpoint} has no chat template")
    called = name or checkpoint.resolve().name
    note = checkpoint / NOTE
    described = note.read_text(encoding="utf-8").strip() if note.is_file() else f"{called}, served from a checkpoint"
    for file in (*WANTED, *OPTIONAL):
        if (checkpoint / file).is_file():
            shutil.copyfile(checkpoint / file, destination / file)
    for path in weights:
        _place(path, destination / path.name)
    Description(called, described).save(destination)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
