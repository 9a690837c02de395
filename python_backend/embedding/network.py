"""Tokenizer and graph of one exported embedding model."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from python_backend.embedding.description import Description

POOLINGS = ("mean", "last", "cls")


@dataclass(frozen=True)
class TokenizedText:
    """One text as the network reads it.

    Attributes:
        ids: its tokens, special ones included.
        cut: whether the text was longer than the network takes.
        pooling: how its vector is made.
    """

    ids: list[int]
    cut: bool
    pooling: str


class Network:
    """Runs on the CPU, or on a GPU where ONNX Runtime has its CUDA provider. May be used by several threads.

    Args:
        directory: holds what `export.text_embedder` writes.
        threads: cores that one batch may use; 0 for all.
    """

    def __init__(self, directory: Path, threads: int = 0):
        self.description = Description.load(directory)
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.description.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Several models share the cores: a thread that waits by spinning takes time from one that computes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
        self._session = onnxruntime.InferenceSession(directory / "model.onnx", options, providers=wanted)

    @property
    def device(self) -> str:
        """Where it runs: `cuda` or `cpu`."""
        return "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"

    def tokenize(self, texts: list[str], pooling: str) -> list[TokenizedText]:
        """Return the tokens of each text, cut where it is too long."""
        encodings = self._tokenizer.encode_batch(texts)
        return [TokenizedText(encoding.ids, bool(encoding.overflowing), pooling) for encoding in encodings]

    def run(self, texts: list[TokenizedText]) -> NDArray[np.float32]:
        """Return the pooled vectors, float32 [n, dimensions], of texts that ask for the same pooling."""
        ids = np.full((len(texts), max(len(text.ids) for text in texts)), self.description.pad_token, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        output = f"pooled_{texts[0].pooling}"
        return np.asarray(self._session.run([output], {"input_ids": ids, "attention_mask": mask})[0])


def thread_budget(model: str) -> int:
    """Return the threads that the launcher grants `model`; 0 leaves the number to ONNX Runtime."""
    return int(os.environ.get(f"ONNXRUNTIME_THREADS_{model.upper()}") or os.environ.get("ONNXRUNTIME_THREADS") or 0)
