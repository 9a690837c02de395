"""The forms that clients of the neighbouring speech services send, and what those services answer."""

from typing import Literal

from pydantic import BaseModel, Field

from gateway.forms import FormModel, Upload

ChunkFormat = Literal["wav-chunks", "wav", "pcm"]
MOST_TOKENS = 4096


class VoxRequest(FormModel):
    """What VoxCPM's `/api/tts` takes. Bounds as its pages state them."""

    text: str = Field(description="What to say; line breaks and runs of spaces count as one space.")
    voice_id: str | None = Field(None, description="A voice of `/api/voices`; wins over `prompt_audio`.")
    prompt_audio: Upload = Field(None, description="Recording of the voice, any format FFmpeg reads.")
    prompt_text: str | None = Field(None, description="The words spoken in it.")
    cfg_value: float = Field(2.0, ge=1.0, le=5.0, description="Guidance: 1 is none at all.")
    inference_timesteps: int = Field(5, ge=1, le=50, description="Steps of the flow's solver.")
    min_len: int = Field(2, ge=1, description="Accepted; speech ends where the model ends it.")
    max_len: int = Field(MOST_TOKENS, ge=1, le=MOST_TOKENS, description="Bound on audio tokens; 5 make 0.12 s.")
    normalize: bool = Field(False, description="Accepted; the model reads text as it is.")
    denoise: bool = Field(False, description="Take noise from `prompt_audio` first.")
    retry_badcase: bool = Field(False, description="Accepted; tokens cannot leave their pattern here.")
    retry_badcase_max_times: int = Field(3, ge=0, description="Accepted.")
    retry_badcase_ratio_threshold: float = Field(6.0, description="Accepted.")


class VoxStreamRequest(VoxRequest):
    """What VoxCPM's `/api/tts/stream` takes."""

    chunk_format: ChunkFormat = Field(
        "wav-chunks",
        description="Whole WAV files one after another, one WAV whose header states no length, or bare samples.",
    )


class VoxVoice(BaseModel):
    """One entry of `/api/voices`."""

    id: str
    description: str
    text: str = Field(description="The words spoken in its recording.")


class VoxVoices(BaseModel):
    """All voices."""

    voices: list[VoxVoice]


class GpuStatus(BaseModel):
    """The GPU's memory, of all programs that use it."""

    model_loaded: bool
    memory_allocated_gb: float = Field(description="Taken by programs.")
    memory_reserved_gb: float = Field(description="The same and what the driver keeps.")
    device_name: str


class NoGpu(BaseModel):
    """There is no GPU."""

    error: Literal["CUDA not available"] = "CUDA not available"


class Offloaded(BaseModel):
    """The models have left the memory; the next request loads them."""

    status: Literal["offloaded"] = "offloaded"


class SynthesizeRequest(FormModel):
    """What `/synthesize` takes."""

    text: str = Field(description="What to say.")
    style: str = Field("style1", description="`style1`, `style2` or `style3`; any other is `style1`.")
    prompt_audio: Upload = Field(None, description="Recording of the voice; wins over `style`.")
    prompt_text: str | None = Field(None, description="Ours: the words spoken in it.")
    temperature: float = Field(0.8, ge=0.0, le=2.0, description="Sampling temperature.")
    top_p: float = Field(0.8, gt=0.0, le=1.0, description="Sample among this share of the probability; 1 is off.")
    top_k: int = Field(30, ge=0, le=65536, description="Sample among this many tokens; 0 is off.")
    num_beams: int = Field(3, ge=1, description="Accepted; the model samples.")
    repetition_penalty: float = Field(10.0, description="Accepted.")
    length_penalty: float = Field(0.0, description="Accepted.")
    max_mel_tokens: int = Field(1500, ge=1, description="Bound on audio tokens; 5 make 0.12 s.")
    max_text_tokens_per_segment: int = Field(120, ge=1, description="Accepted; long texts are spoken in pieces.")
    emo_control_method: int = Field(0, description="Accepted.")
    emo_weight: float = Field(0.65, description="Accepted.")
