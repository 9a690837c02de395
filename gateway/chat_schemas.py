"""The JSON of the chat APIs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.json_types import Refusal, WholeText
from gateway.schemas import WireModel

Role = Literal["developer", "system", "user", "assistant", "tool", "function"]
Stop = Annotated[WholeText, Field(min_length=1, max_length=256)]
Stops = Annotated[
    Stop | Annotated[list[Stop], Field(max_length=4)], Refusal("must be a text of 1 to 256 characters, or up to four")
]


class Part(WireModel):
    """A part of a message; an upstream may take more kinds than text."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(max_length=64)
    text: str | None = None


Content = Annotated[
    str | Annotated[list[Part], Field(max_length=1000)], Refusal("must be a text or a list of parts that have a type")
]


class ChatMessage(WireModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Role
    content: Content | None = None


class StreamOptions(WireModel):
    """What a stream holds beside text."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = Field(False, description="End with a chunk that counts tokens.")


class ChatCompletionRequest(WireModel):
    """OpenAI's fields. Further ones go to an upstream as they are."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, max_length=256, description="Any name: one chat model is served.")
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, ge=0.0, le=1.0)
    n: int | None = Field(None, ge=1, le=8, description="Answers; one in a stream.")
    stop: Stops | None = None
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    presence_penalty: float | None = Field(None, ge=-2.0, le=2.0, description="For an upstream.")
    frequency_penalty: float | None = Field(None, ge=-2.0, le=2.0, description="For an upstream.")
    seed: int | None = Field(None, description="For an upstream.")
    logprobs: bool | None = Field(None, description="For an upstream.")
    tools: list[dict[str, Any]] | None = Field(None, max_length=128, description="For an upstream.")
    response_format: dict[str, Any] | None = Field(None, description="For an upstream; `text` is what there is.")
    modalities: list[str] | None = Field(None, max_length=8, description="For an upstream; `text` is what there is.")


class ChatUsage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnsweredMessage(BaseModel):
    """What was answered."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnsweredMessage
    logprobs: None = None
    finish_reason: str


class ChatCompletion(BaseModel):
    """OpenAI's answer; `model` is what really answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    system_fingerprint: str | None = None


class ChatAnswer(BaseModel):
    """Answer of `/api/chat`: `model` is the one asked for, `raw.model` the one that answered."""

    content: str
    model: str
    raw: dict[str, Any]


class ServiceHealth(BaseModel):
    """How all services are: `ok`, on VoxCPM's port `healthy`."""

    status: Literal["ok", "healthy"]
    model: str | None = Field(description="The chat model.")
    model_loaded: bool = Field(description="Whether speech can be made.")
    version: str
