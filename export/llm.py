"""The language model into the model repository: its files as they are, checked, with one trap removed."""

import json
import os
import shutil
from pathlib import Path

from export.checkpoint import Checkpoint, CheckpointError
from python_backend.llm.config import Step1Config
from python_backend.llm.tokenizer import Tokenizer
from python_backend.llm.weights import check_weights, weight_files


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `config.json`, the weights and `tokenizer.model` of `checkpoint` to `destination`.

    The weights are hard links where both folders are on one file system, so they take no further space.

    Raises:
        CheckpointError: a file is missing, or weights, tokenizer and configuration do not fit each other.
    """
    source = checkpoint.require("llm_dir")
    tokenizer_model = checkpoint.require("tokenizer_model")
    try:
        config = Step1Config.from_file(source / "config.json")
        check_weights(source, config)
        tokenizer = Tokenizer(tokenizer_model)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if tokenizer.audio_offset + tokenizer.audio_tokens != config.vocab_size:
        pieces = tokenizer.audio_offset + tokenizer.audio_tokens
        raise CheckpointError(f"{tokenizer_model} has {pieces} pieces, {source} has vocab_size {config.vocab_size}")
    if tokenizer.eot != config.eos_token_id:
        raise CheckpointError(f"{source}: eos_token_id is {config.eos_token_id}, but <|EOT|> is {tokenizer.eot}")

    content = json.loads((source / "config.json").read_text(encoding="utf-8"))
    # Left out, which some libraries read as true; the head is a tensor of its own and must stay one.
    content["tie_word_embeddings"] = False
    (destination / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for path in [*weight_files(source), tokenizer_model]:
        _place(path, destination / path.name)


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
