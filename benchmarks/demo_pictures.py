"""Spectrograms of generated speech beside espeak-ng's, as PNG files without a plotting library."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.voice.mel import log_mel

COUNT = 10
SCALE = 3  # pixels per mel bin
LOW, HIGH = -9.0, 1.0  # logarithms shown as black and white
GAP = 6  # pixels between the two


def save_pictures(pairs: list[tuple[str, NDArray[np.float32], NDArray[np.float32]]], folder: Path) -> None:
    """Write ten of the (caption, espeak-ng's waveform, generated waveform), evenly chosen, and an index in Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = pairs[:: max(1, len(pairs) // COUNT)][:COUNT]
    lines = ["Above espeak-ng, below the demo checkpoint.\n"]
    for number, (caption, wanted, made) in enumerate(chosen):
        (folder / f"{number}.png").write_bytes(_png(_picture(wanted, made)))
        lines.append(f"{caption}\n\n![{caption}]({number}.png)\n")
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _picture(above: NDArray[np.float32], below: NDArray[np.float32]) -> NDArray[np.uint8]:
    parts = [np.clip((log_mel(waveform)[::-1] - LOW) / (HIGH - LOW), 0, 1) for waveform in (above, below)]
    width = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
    grey = [np.kron(part, np.ones((SCALE, 2))) for part in padded]
    return (255 * np.concatenate([grey[0], np.ones((GAP, 2 * width)), grey[1]])).astype(np.uint8)


def _png(grey: NDArray[np.uint8]) -> bytes:
    """Encode grey [H, W] (PNG specification, third edition, 2025: signature, IHDR, IDAT, IEND)."""
    height, width = grey.shape
    rows = np.pad(grey, ((0, 0), (1, 0))).tobytes()  # each row behind its filter's number, 0

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
