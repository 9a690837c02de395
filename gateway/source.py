"""Which recording a request is about, and the words spoken in it."""

from dataclasses import dataclass

from gateway.errors import InvalidVoice, MissingParameter
from gateway.schemas import SpeechRequest
from gateway.voices import UnknownVoice, Voice, VoiceLibrary


@dataclass(frozen=True)
class Url:
    """Where a recording lies."""

    address: str


@dataclass(frozen=True)
class Source:
    """A recording to clone or to edit, not read yet.

    Attributes:
        content: a voice, a file's bytes, base64 as the request sent it, or a URL.
        transcript: the words spoken in it.
        audio_param, transcript_param: the request's fields they came from.
    """

    content: Voice | bytes | str | Url
    transcript: str
    audio_param: str
    transcript_param: str


def choose(request: SpeechRequest, upload: bytes | None, voices: VoiceLibrary) -> Source:
    """Pick the source: the uploaded file, else base64, else a URL, else a voice.

    A voice brings its own transcript, which wins over the request's: wrong words spoil a clone. Only a clone falls back
    to the default voice.

    Raises:
        ApiError: there is no source.
    """
    try:
        voice = voices.find(request.voice)
    except UnknownVoice as error:
        raise InvalidVoice(str(error.args[0]), param="voice") from None
    options = request.options
    if options.mode == "clone":
        side, encoded, url = "prompt_audio", options.prompt_audio_base64, options.prompt_audio_url
        transcript, transcript_param = options.prompt_text, "step_audio.prompt_text"
    else:
        side, encoded, url = "input_audio", options.input_audio_base64, options.input_audio_url
        transcript, transcript_param = options.audio_text, "step_audio.audio_text"

    if upload is not None:
        content: bytes | str | Url = upload
        audio_param = f"{side}_file"
    elif encoded is not None:
        content, audio_param = encoded, f"step_audio.{side}_base64"
    elif url is not None:
        content, audio_param = Url(url), f"step_audio.{side}_url"
    elif request.voice is not None or options.mode == "clone":
        return Source(voice, voice.prompt_text, "voice", "voice")
    else:
        raise MissingParameter(
            f"step_audio.{side}_base64: {options.mode} needs a clip to edit, or a voice",
            param=f"step_audio.{side}_base64",
        )
    return Source(content, (transcript or "").strip(), audio_param, transcript_param)
