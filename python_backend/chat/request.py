"""One chat request, read from its tensors and checked."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from python_backend.errors import InvalidInput

if TYPE_CHECKING:  # it needs Triton around it
    from python_backend.serving import Inputs

ROLES = ("system", "user", "assistant", "tool")
MAX_MESSAGES = 1000
MAX_CHARACTERS = 1_000_000
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 256

Message = dict[str, str]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: share of the probability to draw from; 1 is all.
        top_k: number of tokens to draw from; 0 is all.
    """

    temperature: float
    top_p: float
    top_k: int


@dataclass(frozen=True)
class ChatRequest:
    """What a caller asks for.

    Attributes:
        messages: the conversation, `role` and `content` each.
        sampling: how tokens are drawn.
        max_tokens: bound on the answer's tokens; `None` leaves it to the model.
        stop: texts before which the answer ends.
    """

    messages: list[Message]
    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...]


def parse(inputs: "Inputs", defaults: Sampling) -> ChatRequest:
    """Read the tensors of one request; what it leaves out is taken from `defaults`.

    Raises:
        InvalidInput: a tensor is missing or unusable.
    """
    temperature = inputs.scalar("temperature", np.float32, defaults.temperature)
    top_p = inputs.scalar("top_p", np.float32, defaults.top_p)
    top_k = inputs.scalar("top_k", np.int32, defaults.top_k)
    max_tokens = inputs.scalar("max_tokens", np.int32)
    if not 0.0 <= temperature <= 2.0:
        raise InvalidInput("temperature", f"must be between 0 and 2, is {temperature}")
    if not 0.0 < top_p <= 1.0:
        raise InvalidInput("top_p", f"must be above 0 and at most 1, is {top_p}")
    if top_k < 0:
        raise InvalidInput("top_k", f"must not be negative, is {top_k}")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInput("max_tokens", f"must be at least 1, is {max_tokens}")
    return ChatRequest(_messages(inputs), Sampling(temperature, top_p, top_k), max_tokens, _stops(inputs))


def _messages(inputs: "Inputs") -> list[Message]:
    text = inputs.text("messages")
    if text is None:
        raise InvalidInput("messages", "missing")
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("messages", "is not JSON") from error
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise InvalidInput("messages", f"must be a list of 1 to {MAX_MESSAGES} messages")
    for number, message in enumerate(messages):
        known = isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
        if not known:
            raise InvalidInput("messages", f"number {number} needs a role ({', '.join(ROLES)}) and a text as content")
    if sum(len(message["content"]) for message in messages) > MAX_CHARACTERS:
        raise InvalidInput("messages", f"have more than {MAX_CHARACTERS} characters")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _stops(inputs: "Inputs") -> tuple[str, ...]:
    if "stop" not in inputs:
        return ()
    values = inputs.array("stop", np.object_, (None,))
    try:
        stops = tuple(bytes(value).decode() for value in values)
    except UnicodeDecodeError as error:
        raise InvalidInput("stop", "is not valid UTF-8") from error
    if len(stops) > MAX_STOPS or any(not 1 <= len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        raise InvalidInput("stop", f"must hold up to {MAX_STOPS} texts of 1 to {MAX_STOP_CHARACTERS} characters")
    return stops
