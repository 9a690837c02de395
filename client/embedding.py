"""Vectors of texts from Triton: what the gateway and other programs ask of model `text_embedder`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from client.connection import ModelConnection
from client.tensors import text_tensor

MODEL = "text_embedder"


@dataclass(frozen=True)
class EmbeddingOptions:
    """How vectors are made; what is `None` is left to the model.

    Attributes:
        kind: `document` or `query`.
        instruction: the task the texts are embedded for.
        dimensions: vectors are cut to this size before they are scaled.
        pooling: `mean`, `last` or `cls`.
        normalize: scale vectors to length one.
    """

    kind: str = "document"
    instruction: str | None = None
    dimensions: int | None = None
    pooling: str | None = None
    normalize: bool = True


@dataclass(frozen=True)
class Embedded:
    """An answer.

    Attributes:
        vectors: float32 [n, d].
        model: what made them.
        tokens: tokens read.
        cut: texts that were longer than the model takes.
    """

    vectors: NDArray[np.float32]
    model: str
    tokens: int
    cut: int


class TritonEmbedder:
    """Model `text_embedder` of one Triton, over gRPC.

    Args:
        url: host and port of Triton's gRPC end point.
    """

    def __init__(self, url: str):
        self._connection = ModelConnection(url, MODEL)

    async def describe(self) -> dict[str, Any] | None:
        """Return `model`, `dimensions`, `max_tokens`, `pooling` and more; `None` where no model is loaded.

        Raises:
            SpeechError: Triton does not answer.
        """
        return await self._connection.describe()

    async def embed(self, texts: Sequence[str], options: EmbeddingOptions) -> Embedded:
        """Return the vectors of up to 256 texts.

        Raises:
            SpeechError: the request was refused or failed.
        """
        answer = await self._connection.infer(_inputs(texts, options), ["embedding", "model", "usage", "cut"])
        return Embedded(
            np.asarray(answer.as_numpy("embedding"), np.float32),
            bytes(answer.as_numpy("model")[0]).decode(),
            int(answer.as_numpy("usage")[0]),
            int(answer.as_numpy("cut")[0]),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


def _inputs(texts: Sequence[str], options: EmbeddingOptions) -> list[triton.InferInput]:
    text = triton.InferInput("text", [len(texts)], "BYTES")
    text.set_data_from_numpy(np.array([value.encode() for value in texts], dtype=np.object_))
    normalize = triton.InferInput("normalize", [1], "BOOL")
    normalize.set_data_from_numpy(np.array([options.normalize]))
    inputs = [text, normalize, text_tensor("kind", options.kind)]
    if options.instruction:
        inputs.append(text_tensor("instruction", options.instruction))
    if options.pooling is not None:
        inputs.append(text_tensor("pooling", options.pooling))
    if options.dimensions is not None:
        dimensions = triton.InferInput("dimensions", [1], "INT32")
        dimensions.set_data_from_numpy(np.array([options.dimensions], np.int32))
        inputs.append(dimensions)
    return inputs
