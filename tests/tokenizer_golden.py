"""The small tokenizer checkpoint and what the original computes with it."""

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from export.checkpoint import Checkpoint
from python_backend.voice.clip import TOKEN_RATE, normalise, trim
from python_backend.voice.resample import resample

DIRECTORY = Path(__file__).resolve().parent / "golden" / "tokenizer_small"
CHECKPOINT = Checkpoint.open(DIRECTORY)
CLIPS = tuple(sorted(path.stem for path in (DIRECTORY / "golden").glob("*.npz") if path.stem != "edge_lengths"))
PIECE = 480_000


@cache
def arrays(name):
    """All arrays of one clip, or of `edge_lengths`."""
    with np.load(DIRECTORY / "golden" / f"{name}.npz") as file:
        return {key: file[key] for key in file}


def source(name):
    """The clip as the original was given it: float32 samples and their rate."""
    samples = arrays(name)["input"]
    scale = 32768.0 if samples.dtype == np.int16 else 1.0
    return (samples / scale).astype(np.float32), int(arrays(name)["input_rate"])


@cache
def prepared(name):
    """The clip as the tokenizers are given it."""
    return trim(normalise(resample(*source(name), TOKEN_RATE)))


def edge_cases(codes):
    """Yield (signal, golden codes) for every length of `edge_lengths`; `codes` is `vq02` or `vq06`."""
    golden = arrays("edge_lengths")
    signal = golden["signal"].astype(np.float32) / (32768.0 if golden["signal"].dtype == np.int16 else 1.0)
    offsets = golden[f"{codes}_offsets"]
    for i, length in enumerate(golden["lengths"]):
        yield signal[:length], golden[codes][offsets[i] : offsets[i + 1]]


def padded(clips, seed=0):
    """Put clips into one batch: audio [B, N] with noise as padding, and lengths [B, 1]."""
    audio = np.random.default_rng(seed).standard_normal((len(clips), max(map(len, clips)))).astype(np.float32)
    for row, clip in zip(audio, clips, strict=True):
        row[: len(clip)] = clip
    return audio, np.array([[len(clip)] for clip in clips], dtype=np.int32)


def session(path):
    """An ONNX Runtime session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
