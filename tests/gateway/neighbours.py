"""Doubles of the services beside speech."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from client.chat import ChatJob, Piece
from client.embedding import Embedded, EmbeddingOptions
from gateway.chat_backends import LocalChat
from gateway.neighbours import Neighbours

WORDS = ("Hello", ", ", "you")


@dataclass
class FakeTritonChat:
    """Answers every conversation with the same three pieces."""

    loaded: bool = True
    failure: Exception | None = None
    late_failure: Exception | None = None
    delay: float = 0.0
    jobs: list[ChatJob] = field(default_factory=list)
    cancelled: int = 0
    closed: bool = False

    async def describe(self) -> dict[str, Any] | None:
        return {"model": "fake/chat", "description": "says hello", "context": 100} if self.loaded else None

    async def answer(self, job: ChatJob) -> AsyncIterator[Piece]:
        self.jobs = [job]
        if self.failure:
            raise self.failure
        try:
            for word in WORDS:
                await asyncio.sleep(self.delay)
                yield Piece(word)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        if self.late_failure:
            raise self.late_failure
        yield Piece("", "stop", 7, 3)

    async def close(self) -> None:
        self.closed = True


@dataclass
class FakeEmbedder:
    """Gives each text the vector of its letters' counts."""

    loaded: bool = True
    failure: Exception | None = None
    instruction: str = ""
    calls: list[tuple[list[str], EmbeddingOptions]] = field(default_factory=list)
    closed: bool = False

    async def describe(self) -> dict[str, Any] | None:
        known = {"model": "fake/embedder", "dimensions": 26, "max_tokens": 8, "pooling": "mean", "device": "cpu"}
        return known | {"instruction": self.instruction} if self.loaded else None

    async def embed(self, texts: Sequence[str], options: EmbeddingOptions) -> Embedded:
        self.calls = [*self.calls[-5:], (list(texts), options)]
        if self.failure:
            raise self.failure
        counts = [[text.lower().count(chr(letter)) + 0.01 for letter in range(97, 123)] for text in texts]
        vectors = np.array(counts, np.float32)[:, : options.dimensions or 26]
        if options.normalize:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cut = sum(len(text.split()) > 8 for text in texts)
        return Embedded(vectors, "fake/embedder", sum(len(text.split()) for text in texts), cut)

    async def close(self) -> None:
        self.closed = True


def fakes(chat: FakeTritonChat, embedder: FakeEmbedder) -> Neighbours:
    return Neighbours(LocalChat(chat), embedder)
