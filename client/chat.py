"""Answers of the chat model in Triton: what the gateway and other programs ask of model `chat`."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from client.connection import ModelConnection
from client.errors import ModelFailed
from client.tensors import text_tensor

MODEL = "chat"


@dataclass(frozen=True)
class ChatJob:
    """A conversation to answer; what is `None` is left to the model.

    Attributes:
        messages: `role` and `content` each.
        temperature: 0 to 2; 0 takes the likeliest token.
        top_p: share of the probability to draw from.
        max_tokens: bound on the answer.
        stop: up to four texts before which the answer ends.
    """

    messages: Sequence[Mapping[str, str]]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Piece:
    """A part of an answer. The last one has a `finish_reason`, and tokens of prompt and answer."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0


class TritonChat:
    """Model `chat` of one Triton, over gRPC.

    Args:
        url: host and port of Triton's gRPC end point.
    """

    def __init__(self, url: str):
        self._connection = ModelConnection(url, MODEL)

    async def describe(self) -> dict[str, Any] | None:
        """Return `model`, `description` and `context`; `None` where no model is loaded.

        Raises:
            SpeechError: Triton does not answer.
        """
        return await self._connection.describe()

    async def answer(self, job: ChatJob) -> AsyncGenerator[Piece, None]:
        """Give the answer as it is written; closing the generator before the end stops the model.

        Raises:
            SpeechError: the request was refused or failed, perhaps after some pieces.
        """
        finished = False
        outputs = ["text", "finish_reason", "usage"]
        async with aclosing(self._connection.stream(_inputs(job), outputs)) as answers:
            async for answer in answers:
                reason, usage, text = (answer.as_numpy(name) for name in ("finish_reason", "usage", "text"))
                if reason is None:
                    yield Piece(bytes(text[0]).decode())
                else:
                    finished = True
                    counts = (0, 0) if usage is None else (int(usage[0]), int(usage[1]))
                    yield Piece("", bytes(reason[0]).decode(), *counts)
        if not finished:
            raise ModelFailed("the answer ended before its end")

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


def _inputs(job: ChatJob) -> list[triton.InferInput]:
    inputs = [text_tensor("messages", json.dumps([dict(message) for message in job.messages], ensure_ascii=False))]
    numbers: list[tuple[str, str, type, float | None]] = [
        ("temperature", "FP32", np.float32, job.temperature),
        ("top_p", "FP32", np.float32, job.top_p),
        ("max_tokens", "INT32", np.int32, job.max_tokens),
    ]
    for name, datatype, dtype, value in numbers:
        if value is not None:
            tensor = triton.InferInput(name, [1], datatype)
            tensor.set_data_from_numpy(np.array([value], dtype))
            inputs.append(tensor)
    if job.stop:
        stop = triton.InferInput("stop", [len(job.stop)], "BYTES")
        stop.set_data_from_numpy(np.array([text.encode() for text in job.stop], dtype=np.object_))
        inputs.append(stop)
    return inputs
