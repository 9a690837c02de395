"""From texts to vectors: bounded, cut into requests that the model takes, and compared."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from client.embedding import MODEL, Embedded, EmbeddingOptions
from client.errors import SpeechError
from gateway.errors import InvalidValue, TimedOut, Unavailable, from_neighbour
from gateway.metrics import Metrics
from gateway.permits import Permits

TEXTS_AT_ONCE = 64  # of one request; the model batches those of several
REQUESTS_AT_ONCE = 256
REQUESTS_WAITING = 1024


class Embedder(Protocol):
    """Makes vectors. `client.embedding.TritonEmbedder` is the real one; every method may raise `SpeechError`."""

    async def describe(self) -> dict[str, Any] | None:
        """Return what model it is, `None` where none is loaded."""
        ...

    async def embed(self, texts: Sequence[str], options: EmbeddingOptions) -> Embedded:
        """Return the vectors of some texts."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class EmbeddingService:
    """Serves many requests at once.

    Args:
        embedder: does the work; without one every request is refused as unavailable.
        timeout_seconds: for one request.
        metrics: shows how many requests there are.
    """

    def __init__(self, embedder: Embedder | None, timeout_seconds: float, metrics: Metrics):
        self._embedder = embedder
        self._seconds = timeout_seconds
        self._permits = Permits(REQUESTS_AT_ONCE, REQUESTS_WAITING)
        metrics.watch("active_embeddings", "Embedding requests worked on.", lambda: self._permits.active)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._permits.waiting

    async def loaded(self) -> dict[str, Any] | None:
        """Return what the model says of itself, `None` where there is none or Triton is away."""
        try:
            return None if self._embedder is None else await self._embedder.describe()
        except SpeechError:
            return None

    async def description(self) -> dict[str, Any]:
        """Return what the model says of itself.

        Raises:
            Unavailable: it is not loaded.
        """
        known = await self.loaded()
        if known is None:
            raise _unavailable()
        return known

    async def embed(self, texts: Sequence[str], options: EmbeddingOptions, params: dict[str, str]) -> Embedded:
        """Return the vectors of `texts`, any number.

        Args:
            texts: none of them empty.
            options: how vectors are made.
            params: the request field behind each tensor.

        Raises:
            ApiError: refused or failed.
        """
        if self._embedder is None:
            raise _unavailable()
        parts = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
        async with self._taken_on():
            try:
                # One after the other: the texts of other requests come in between, and nothing is left over when the
                # caller goes.
                answers = [await self._embedder.embed(part, options) for part in parts]
            except SpeechError as error:
                raise from_neighbour(error, MODEL, params) from error
        return Embedded(
            np.concatenate([answer.vectors for answer in answers]),
            answers[0].model,
            sum(answer.tokens for answer in answers),
            sum(answer.cut for answer in answers),
        )

    async def models(self) -> Mapping[str, tuple[str, str]]:
        """Return the name to ask for the model by, with its owner and what it is; none if none is loaded."""
        known = await self.loaded()
        if known is None:
            return {}
        owner, _, _ = str(known["model"]).rpartition("/")
        what = f"embeds texts in {known['dimensions']} dimensions; reads up to {known['max_tokens']} tokens of each"
        return {str(known["model"]): (owner or "step-audio-triton", what)}

    @asynccontextmanager
    async def _taken_on(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds), self._permits.one():
                yield
        except TimeoutError:
            raise TimedOut(f"the vectors were not ready within {self._seconds:g} s") from None


def _unavailable() -> Unavailable:
    return Unavailable(f"the model {MODEL} is not loaded, or cannot be reached at the moment", retry_after=5)


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the cosine of the angle between two vectors, -1 to 1.

    Raises:
        InvalidValue: they are of different sizes, or one has no length.
    """
    if a.shape != b.shape:
        raise InvalidValue(f"b: has {b.size} numbers, a has {a.size}", param="b")
    # Scaled first: squares of large numbers would leave the range.
    scaled = [_unit(vector.astype(np.float64), name) for vector, name in ((a, "a"), (b, "b"))]
    return float(np.clip(scaled[0] @ scaled[1], -1.0, 1.0))


def _unit(vector: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    largest = float(np.abs(vector).max())
    if largest == 0.0:
        raise InvalidValue(f"{name}: all numbers are zero, so it has no direction", param=name)
    shrunk = vector / largest
    return np.asarray(shrunk / np.linalg.norm(shrunk))


def check_not_blank(texts: Sequence[str], param: str) -> None:
    """Raise `InvalidValue` where one of `texts` has nothing to read."""
    for number, text in enumerate(texts):
        if not text.strip():
            where = f"{param}.{number}" if len(texts) > 1 else param
            raise InvalidValue(f"{where}: is blank", param=where)
