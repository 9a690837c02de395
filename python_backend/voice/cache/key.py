"""Under which name a voice is kept: the content of its clip and everything else that decides what it encodes to."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import InvalidInput

FORMAT = 1
"""Raised when the same clip would encode to something else, or entries are written in another form."""
NETWORKS = ("linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder")
_KEY = re.compile(r"[0-9a-f]{64}")
_NOTES = "export.json"  # of the exporter, with the times of its sources


def fingerprint(repository: Path, models: Iterable[str] = NETWORKS) -> str:
    """Return the SHA-256 of the files in each model's version folders.

    Args:
        repository: the model repository.
    """
    digest = hashlib.sha256()
    for model in models:
        for path in sorted((repository / model).glob("[0-9]*/*")):
            if path.is_file() and path.name != _NOTES:
                digest.update(f"{path.relative_to(repository).as_posix()}\n".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def content_key(audio: NDArray[np.float32], sample_rate: int, dither: float, networks: str) -> str:
    """Return the key of a clip as it came, before any processing: 64 hexadecimal digits.

    Args:
        audio: float32 [N], contiguous.
        sample_rate: Hz.
        dither: of the linguistic tokenizer.
        networks: `fingerprint` of the networks.
    """
    digest = hashlib.sha256(f"{FORMAT} {networks} {sample_rate} {float(dither).hex()} {len(audio)}\n".encode())
    digest.update(audio.data)
    return digest.hexdigest()


def checked_key(text: str) -> str:
    """Return `text`, which a caller sent as a key.

    Raises:
        InvalidInput: it cannot be one; keys name files.
    """
    if not _KEY.fullmatch(text):
        raise InvalidInput("voice_key", "must be 64 hexadecimal digits, as an earlier answer gave them")
    return text
