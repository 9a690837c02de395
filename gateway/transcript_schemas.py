"""Transcripts in the JSON of OpenAI's API, and what the recogniser knows beyond it."""

import math
import zlib
from typing import Literal

from pydantic import BaseModel, Field

from client.recognition import Segment
from gateway.transcription import LANGUAGES, Transcript

FRAME_SECONDS = 0.06
"""What the recogniser hears at a time: the audio tokens that are counted."""


class DurationUsage(BaseModel):
    """What was worked on, by its length."""

    type: Literal["duration"] = "duration"
    seconds: int


class TokenDetails(BaseModel):
    """Where the tokens are from."""

    text_tokens: int
    audio_tokens: int


class TokenUsage(BaseModel):
    """What was worked on, in tokens."""

    type: Literal["tokens"] = "tokens"
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: TokenDetails


class Transcription(BaseModel):
    """The words alone."""

    text: str
    usage: DurationUsage


class TranscriptionWord(BaseModel):
    """A word and its time in seconds."""

    word: str
    start: float
    end: float


class TranscriptionSegment(BaseModel):
    """A stretch of speech, usually a sentence; `language`, `emotion` and `events` are additions of ours."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    language: str
    emotion: str
    events: list[str]


class VerboseTranscription(BaseModel):
    """The words with their times."""

    task: Literal["transcribe"] = "transcribe"
    language: str = Field(description="English name of the language spoken longest; empty where nobody speaks.")
    duration: float
    text: str
    segments: list[TranscriptionSegment] | None = None
    words: list[TranscriptionWord] | None = None
    usage: DurationUsage


class SpeakerSegment(BaseModel):
    """A segment and who speaks; here everybody is `A`."""

    type: Literal["transcript.text.segment"] = "transcript.text.segment"
    id: str
    start: float
    end: float
    text: str
    speaker: Literal["A"] = "A"


class DiarizedTranscription(BaseModel):
    """The segments with their speakers: speakers are not told apart here."""

    task: Literal["transcribe"] = "transcribe"
    duration: float
    text: str
    segments: list[SpeakerSegment]
    usage: DurationUsage


class RecognizedText(BaseModel):
    """The words, with signs for emotions and events."""

    text: str


def usage(seconds: float) -> DurationUsage:
    """Count whole seconds begun."""
    return DurationUsage(seconds=math.ceil(seconds))


def token_usage(transcript: Transcript) -> TokenUsage:
    """Count what was heard and what was said."""
    heard = math.ceil(transcript.seconds / FRAME_SECONDS)
    said = sum(len(segment.tokens) for segment in transcript.segments)
    details = TokenDetails(text_tokens=0, audio_tokens=heard)
    return TokenUsage(input_tokens=heard, output_tokens=said, total_tokens=heard + said, input_token_details=details)


def plain(transcript: Transcript) -> Transcription:
    """Return `json`."""
    return Transcription(text=transcript.text, usage=usage(transcript.seconds))


def verbose(transcript: Transcript, granularities: frozenset[str]) -> VerboseTranscription:
    """Return `verbose_json` with the times of segments, words or both."""
    words = [word for segment in transcript.segments for word in segment.words]
    spoken = [TranscriptionWord(word=_bare(word.text), start=word.start, end=word.end) for word in words]
    return VerboseTranscription(
        language=LANGUAGES.get(transcript.language, ""),
        duration=round(transcript.seconds, 3),
        text=transcript.text,
        segments=list(map(_segment, range(len(transcript.segments)), transcript.segments))
        if "segment" in granularities
        else None,
        words=[word for word in spoken if word.word] if "word" in granularities else None,
        usage=usage(transcript.seconds),
    )


def diarized(transcript: Transcript) -> DiarizedTranscription:
    """Return `diarized_json`, with one speaker."""
    return DiarizedTranscription(
        duration=round(transcript.seconds, 3),
        text=transcript.text,
        segments=[speaker_segment(number, segment) for number, segment in enumerate(transcript.segments)],
        usage=usage(transcript.seconds),
    )


def speaker_segment(number: int, segment: Segment) -> SpeakerSegment:
    """Return the `number`-th segment with its speaker."""
    return SpeakerSegment(id=f"seg_{number}", start=segment.start, end=segment.end, text=segment.text)


def _segment(number: int, segment: Segment) -> TranscriptionSegment:
    content = segment.text.encode()
    return TranscriptionSegment(
        id=number,
        seek=round(segment.start * 100),
        start=segment.start,
        end=segment.end,
        text=segment.text,
        tokens=list(segment.tokens),
        temperature=0.0,
        avg_logprob=segment.log_prob,
        compression_ratio=len(content) / len(zlib.compress(content)),
        no_speech_prob=segment.no_speech,
        language=segment.language,
        emotion=segment.emotion,
        events=list(segment.events),
    )


def _bare(word: str) -> str:
    return word.strip(" \"'.,!?;:()[]“”‘’…，。！？；：、（）《》「」【】")
