"""The JSON that clients send and get. Nothing here reaches the models as it stands."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from client.speech import Mode
from gateway.encoding import AudioFormat

DEFAULT_MODEL = "step-audio-editx"
SHORTEST_TOKENS, LONGEST_TOKENS = 5, 3000
Variant = Literal["base", "bnb", "awq"]


def _voice_name(value: Any) -> Any:
    return value["id"] if isinstance(value, dict) and "id" in value else value


def _texts(value: Any) -> Any:
    return {key: _text(item) for key, item in value.items()} if isinstance(value, dict) else value


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


class VoiceReference(BaseModel):
    """OpenAI's long form of a voice."""

    id: str


VoiceChoice = Annotated[str, BeforeValidator(_voice_name, json_schema_input_type=str | VoiceReference)]
_Scalars = dict[str, str | int | float | bool | None]
Metadata = Annotated[
    dict[str, str],
    Field(max_length=16),
    BeforeValidator(_texts, json_schema_input_type=Annotated[_Scalars, Field(max_length=16)]),
]


class WireModel(BaseModel):
    """Values are taken as they are typed; keys nobody knows are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _whole_unicode(cls, value: Any) -> Any:
        """Refuse half surrogate pairs, which JSON can carry and UTF-8 cannot."""
        strings = [*value, *value.values()] if isinstance(value, dict) else [value]
        for text in strings:
            if isinstance(text, str):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise ValueError("it must be valid Unicode") from None
        return value


class StepAudioOptions(WireModel):
    """What Step-Audio-EditX can do beyond OpenAI's fields."""

    mode: Mode = Field("clone", description="The task.")
    model_variant: Variant | None = Field(
        None, description="Which weights: bf16, bitsandbytes 4-bit or AWQ 4-bit. Unset: `bnb` if loaded, else `base`."
    )
    prompt_text: str | None = Field(None, description="Words spoken in the reference clip (clone).")
    prompt_audio_base64: str | None = Field(
        None, description="Reference clip, any format FFmpeg reads; `data:` URIs too."
    )
    prompt_audio_url: str | None = Field(None, description="Reference clip that the server fetches.")
    input_audio_base64: str | None = Field(None, description="Clip to edit (all modes but clone).")
    input_audio_url: str | None = Field(None, description="Clip to edit that the server fetches.")
    audio_text: str | None = Field(None, description="Words spoken in the clip to edit; not needed by denoise and vad.")
    edit_info: str | None = Field(
        None,
        max_length=200,
        description="Emotion, style or speed tag, see `/v1/tags`; for speed also a rate such as `0.8x`.",
    )
    intensity: float = Field(1.0, ge=0.1, le=3.0, description="Strength of an edit; 1 is the model's own.")
    n_edit_iter: int = Field(1, ge=1, le=4, description="Passes over the clip, each on the output of the one before.")
    seed: int | None = Field(None, ge=0, le=2**53 - 1, description="Same seed, same speech.")
    temperature: float | None = Field(
        None, ge=0.0, le=2.0, description="Sampling temperature; the model's default is 0.7."
    )
    top_k: int | None = Field(None, ge=0, le=65536, description="Sample among this many tokens; 0 is off.")
    top_p: float | None = Field(
        None, gt=0.0, le=1.0, description="Sample among this share of the probability; 1 is off."
    )
    repetition_aware: bool | None = Field(None, description="Forbid a token that just came twice in ten.")
    max_tokens: int | None = Field(
        None, ge=SHORTEST_TOKENS, le=LONGEST_TOKENS, description="Bound on audio tokens; 5 make 0.12 s."
    )
    steps: int | None = Field(None, ge=1, le=100, description="Steps of the flow's solver; the model's default is 10.")
    guidance: float | None = Field(
        None, ge=0.0, le=10.0, description="How far the flow leans towards the voice; the model's default is 0.7."
    )


class SpeechRequest(WireModel):
    """OpenAI's fields, and `step_audio` for everything else."""

    model: str = Field(DEFAULT_MODEL, description="A listed model or alias.")
    input: str | None = Field(
        None, description="Text to speak (clone) or the new text with its tags (paralinguistic); else never spoken."
    )
    voice: VoiceChoice | None = Field(None, description='Voice id, OpenAI voice name or `{"id": …}`.')
    response_format: AudioFormat | None = Field(
        None, description="Unset: `wav`; `mp3` for an OpenAI model alias without `step_audio`."
    )
    speed: float = Field(1.0, ge=0.25, le=4.0, description="Pitch-preserving tempo of the result.")
    instructions: str | None = Field(
        None,
        max_length=4096,
        description="A clone that should sound like an emotion or style named here gets an edit pass.",
    )
    stream: bool = Field(False, description="Send audio while it is made; lengths in its header are then open-ended.")
    stream_format: Literal["audio", "sse"] = Field("audio", description="Plain audio, or server-sent events.")
    metadata: Metadata | None = Field(None, description="Echoed as `x-metadata-<key>` headers.")
    step_audio: StepAudioOptions | None = Field(None, description="Step-Audio-EditX's own options.")

    @property
    def options(self) -> StepAudioOptions:
        """The extension block, or its defaults."""
        return self.step_audio or StepAudioOptions()


class ModelCard(BaseModel):
    """One entry of `/v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    description: str | None = Field(None, description="What its users should know.")
    variants: list[str] | None = Field(None, description="Weights that `step_audio.model_variant` can name now.")


class ModelList(BaseModel):
    """All models and aliases."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class VoiceCard(BaseModel):
    """One entry of `/v1/voices`."""

    id: str
    object: Literal["voice"] = "voice"
    name: str
    description: str
    prompt_audio: str = Field(description="Path on this server where the recording can be heard.")
    prompt_text: str = Field(description="The words spoken in it.")
    locale: str
    gender: str


class VoiceName(BaseModel):
    """One entry of `/v1/voices` on port 7861."""

    id: str
    name: str


class VoiceNames(BaseModel):
    """`/v1/voices` on port 7861, whose clients read it in this form."""

    voices: list[VoiceName]


class VoiceDeleted(BaseModel):
    """A voice that is gone."""

    id: str
    object: Literal["voice.deleted"] = "voice.deleted"
    deleted: Literal[True] = True


class OpenAIVoice(BaseModel):
    """A voice as OpenAI's API describes it."""

    id: str
    object: Literal["audio.voice"] = "audio.voice"
    type: Literal["audio_sample"] = "audio_sample"
    name: str
    created_at: int


class OpenAIVoiceDeleted(BaseModel):
    """A voice that is gone, as OpenAI's API says it."""

    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: Literal[True] = True


class TagLists(BaseModel):
    """The listed tags by mode."""

    data: dict[str, list[str]]


class CacheStats(BaseModel):
    """What the voice cache holds and how often it helped."""

    enabled: bool
    hits: int = Field(description="Recordings whose voice was known.")
    misses: int = Field(description="Recordings that had to be encoded.")
    total_requests: int
    hit_rate: str = Field(description="Share of hits, such as `66.7%`.")
    cache_size: int = Field(description="Voices kept.")
    max_size: int = Field(description="Voices kept at most; the ones used longest ago go first.")
    time_saved_estimate: str = Field(description="Time that encoding took once for each hit, such as `3.3s`.")


class LogLines(BaseModel):
    """What was done lately, the oldest line first."""

    data: list[str]


class Health(BaseModel):
    """`ok`, or `starting` until speech can be made."""

    status: Literal["ok", "starting"]


class ErrorDetail(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail
    detail: str = Field(description="The same message, for older clients.")
