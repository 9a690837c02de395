"""The text embedder as a Triton model: texts in, unit vectors out."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.embedding.batcher import Batcher
from python_backend.embedding.network import POOLINGS, Network, thread_budget
from python_backend.errors import InvalidInput
from python_backend.serving import Inputs, Outputs

KINDS = ("document", "query")
MAX_TEXTS = 256
MAX_CHARACTERS = 1_000_000
MAX_INSTRUCTION = 4096


class TextEmbedder:
    """Reads requests, prepares their texts and scales their vectors.

    Args:
        name: the Triton model's name.
        directory: holds what `export.text_embedder` writes.
        parameters: the model's `parameters` in `config.pbtxt`.
    """

    def __init__(self, name: str, directory: Path, parameters: dict[str, str]):
        self._network = Network(directory, thread_budget(name))
        self._batcher = Batcher(
            self._network.run,
            int(parameters["batch_texts"]),
            int(parameters["batch_tokens"]),
            int(parameters["max_queue"]),
        )
        for pooling in POOLINGS:
            self._network.run(self._network.tokenize(["warm up"], pooling))

    def answer(self, inputs: Inputs) -> Outputs:
        """Answer one request.

        Raises:
            InvalidInput: a tensor is missing or unusable.
            Unavailable: too many texts wait.
        """
        known = self._network.description
        operation = inputs.text("op")
        if operation is not None:
            if operation != "describe":
                raise InvalidInput("op", f"unknown operation {operation!r}, must be describe")
            return {"description": np.array([json.dumps(asdict(known) | {"device": self._network.device})])}
        dimensions = inputs.scalar("dimensions", np.int32, known.dimensions)
        if not 1 <= dimensions <= known.dimensions:
            raise InvalidInput("dimensions", f"must be between 1 and {known.dimensions}, is {dimensions}")
        pooling = _choice(inputs, "pooling", POOLINGS, known.pooling)
        prefix = self._prefix(inputs)
        tokenized = self._network.tokenize([prefix + text for text in _texts(inputs)], pooling)
        vectors = self._batcher.embed(tokenized)[:, :dimensions]
        return {
            "embedding": normalised(vectors) if inputs.scalar("normalize", np.bool_, True) else vectors,
            "model": np.array([known.model]),
            "usage": np.array([sum(len(text.ids) for text in tokenized)], dtype=np.int32),
            "cut": np.array([sum(text.cut for text in tokenized)], dtype=np.int32),
        }

    def close(self) -> None:
        """Finish what is under way."""
        self._batcher.close()

    def _prefix(self, inputs: Inputs) -> str:
        """Return what goes before each text; a model that was not trained with instructions gets none."""
        known = self._network.description
        kind = _choice(inputs, "kind", KINDS, "document")
        instruction = inputs.text("instruction", "") or ""
        if len(instruction) > MAX_INSTRUCTION:
            raise InvalidInput("instruction", f"is longer than {MAX_INSTRUCTION} characters")
        if instruction:
            return known.instruction.replace("{instruction}", instruction)
        return known.query_prompt if kind == "query" else ""


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of `vectors` [n, d] to length one; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def _choice(inputs: Inputs, name: str, choices: tuple[str, ...], default: str) -> str:
    value = inputs.text(name, default) or default
    if value not in choices:
        raise InvalidInput(name, f"must be one of {', '.join(choices)}, is {value!r}")
    return value


def _texts(inputs: Inputs) -> list[str]:
    values = inputs.array("text", np.object_, (None,))
    if not 1 <= len(values) <= MAX_TEXTS:
        raise InvalidInput("text", f"must hold 1 to {MAX_TEXTS} texts, holds {len(values)}")
    texts = []
    for number, value in enumerate(values):
        try:
            text = bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput("text", f"number {number} is not valid UTF-8") from error
        if not text:
            raise InvalidInput("text", f"number {number} is empty")
        if len(text) > MAX_CHARACTERS:
            raise InvalidInput("text", f"number {number} is longer than {MAX_CHARACTERS} characters")
        texts.append(text)
    return texts
