"""The gateway's settings: every one an environment variable `GATEWAY_…`, documented where it is defined."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.voices import BUILT_IN, DEFAULT_VOICE

OPENAI_VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip

_MIB = 1024 * 1024


class Settings(BaseSettings):
    """Defaults suit one machine; a list is written with commas, a mapping as JSON."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 opens the gateway to the network.")
    port: int = Field(7860, ge=0, le=65535, description="Port to listen on.")
    ports: Annotated[tuple[int, ...], NoDecode] = Field((), description="Further ports to listen on.")
    triton_url: str = Field("127.0.0.1:8001", description="Host and port of Triton's gRPC end point.")
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Bearer keys that are let in. None: everyone is, whatever the header says."
    )
    default_voice: str = Field(DEFAULT_VOICE, description="Built-in voice for requests that name none.")
    voice_aliases: dict[str, str] = Field(
        {}, description="Further names for voices, such as OpenAI's. OpenAI's names not listed mean the default voice."
    )
    voices_dir: Path = Field(BUILT_IN, description="Folder of the built-in voices and their voices.json.")
    custom_voices_dir: Path = Field(
        Path("out/voices"), description="Folder of the voices that users bring; made when the first one comes."
    )
    max_custom_voices: int = Field(1000, ge=0, description="Voices that users may bring.")
    decode_processes: int = Field(
        2, ge=0, description="Processes that decode clips, apart from the gateway so that a crash costs one clip."
    )
    url_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Hosts and networks that clip URLs may name although they are private."
    )
    url_timeout_seconds: float = Field(30.0, gt=0, description="Time for fetching a clip from its URL.")
    max_body_bytes: int = Field(32 * _MIB, ge=1024, description="Largest request body.")
    max_clip_seconds: float = Field(
        60.0, gt=0, le=60.0, description="Longest clip whose voice is cloned; the models take up to 60 s."
    )
    max_edit_seconds: float = Field(120.0, gt=0, le=600.0, description="Longest recording to edit.")
    edit_part_seconds: float = Field(
        30.0, ge=5, le=60, description="Longer recordings are edited in parts of at most this length and joined."
    )
    max_transcription_seconds: float = Field(
        1800.0, gt=0, le=1800.0, description="Longest recording to transcribe; the recogniser takes up to half an hour."
    )
    auto_transcribe: bool = Field(
        True, description="Recognise the words of clips that come without them, where a recogniser is loaded."
    )
    max_input_chars: int = Field(4096, ge=1, description="Longest text to speak.")
    piece_seconds: float = Field(
        20.0, ge=1, le=60, description="Longer texts are spoken in pieces of about this length and joined."
    )
    pieces_at_once: int = Field(4, ge=1, description="Pieces of one text that are spoken at the same time.")
    requests_per_minute: int = Field(
        0,
        ge=0,
        description="Requests that each key, or without keys each address, may make in a minute; 0 is no limit.",
    )
    max_concurrent: int = Field(32, ge=1, description="Speech requests worked on at once; further ones wait.")
    max_waiting: int = Field(64, ge=0, description="Speech requests that may wait; further ones get 429.")
    request_timeout_seconds: float = Field(600.0, gt=0, description="A request not answered by then gets 504.")
    drain_seconds: int = Field(30, ge=0, description="Time that requests under way get when the gateway is stopped.")
    chat_upstream_url: str = Field(
        "",
        description="Base address of an OpenAI-compatible service that answers chats; empty for the model in Triton.",
    )
    chat_upstream_key: SecretStr = Field(SecretStr(""), description="Key for that service.")
    chat_upstream_model: str = Field("", description="Model to ask it for; empty for the one each request names.")
    chat_upstream_timeout_seconds: float = Field(
        120.0, gt=0, description="Time for its answer to begin, and between parts of it."
    )
    log_json: bool = Field(False, description="Write the log as one JSON object per line.")

    @field_validator("api_keys", "url_allow", "ports", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
