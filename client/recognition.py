"""Speech to text from Triton: what the gateway and other programs ask of model `speech_recognizer`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from client.connection import ModelConnection
from client.speech import Clip
from client.tensors import text_tensor

MODEL = "speech_recognizer"
RATE = 16_000
"""The rate that the recogniser works at: a clip at this rate is not resampled again."""
PIECE_SECONDS = 30.0
"""Shorter clips are never cut."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word with the punctuation after it, and when it is spoken, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech, usually a sentence.

    Attributes:
        text: all segments' texts joined are the whole text; a leading space belongs to it.
        start, end: seconds.
        language: `zh`, `en`, `yue`, `ja`, `ko`, or empty.
        emotion: `happy`, `sad`, `angry`, `neutral`, `fearful`, `disgusted`, `surprised`, or empty.
        events: `bgm`, `applause`, `laughter`, `cry`, `sneeze`, `cough`.
        log_prob: mean over its tokens.
        no_speech: how likely nobody speaks there, 0 … 1.
        tokens: ids.
    """

    text: str
    start: float
    end: float
    language: str
    emotion: str
    events: tuple[str, ...]
    log_prob: float
    no_speech: float
    tokens: tuple[int, ...]
    words: tuple[Word, ...]

    def later(self, seconds: float) -> "Segment":
        """Return the same, `seconds` later."""
        words = tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in self.words)
        return replace(self, start=self.start + seconds, end=self.end + seconds, words=words)


@dataclass(frozen=True, slots=True)
class Description:
    """What the loaded recogniser is: the name of its checkpoint, and what its users should know."""

    model: str
    note: str


class TritonRecognizer:
    """Model `speech_recognizer` of one Triton, over gRPC.

    Args:
        url: host and port of Triton's gRPC end point.
    """

    def __init__(self, url: str):
        self._model = ModelConnection(url, MODEL)

    async def describe(self) -> Description | None:
        """Return what the recogniser is, `None` where it is not loaded; the answer may be a few seconds old.

        Raises:
            SpeechError: Triton does not answer.
        """
        known = await self._model.describe()
        return Description(**known) if known else None

    async def cuts(self, clip: Clip) -> Sequence[int]:
        """Return at which samples `clip` should be cut so that no part is longer than 30 s.

        Raises:
            SpeechError: the request was refused or failed.
        """
        if clip.seconds <= PIECE_SECONDS:
            return ()
        answer = await self._model.infer([*_inputs(clip), text_tensor("op", "cuts")], ["cuts"])
        return [int(place) for place in answer.as_numpy("cuts")]

    async def recognize(self, clip: Clip, language: str = "auto") -> list[Segment]:
        """Return what is said in `clip`, in written form.

        Raises:
            SpeechError: the request was refused or failed.
        """
        answer = await self._model.infer([*_inputs(clip), text_tensor("language", language)], ["segments"])
        return [_segment(**fields) for fields in json.loads(bytes(answer.as_numpy("segments")[0]))]

    async def close(self) -> None:
        """Close the connection."""
        await self._model.close()


def _inputs(clip: Clip) -> list[triton.InferInput]:
    audio = triton.InferInput("audio", [len(clip.waveform)], "FP32")
    audio.set_data_from_numpy(np.ascontiguousarray(clip.waveform, np.float32))
    sample_rate = triton.InferInput("sample_rate", [1], "INT32")
    sample_rate.set_data_from_numpy(np.array([clip.sample_rate], np.int32))
    return [audio, sample_rate]


def _segment(words: list[dict[str, Any]], events: list[str], tokens: list[int], **fields: Any) -> Segment:
    spoken = tuple(Word(word["word"], word["start"], word["end"]) for word in words)
    return Segment(words=spoken, events=tuple(events), tokens=tuple(tokens), **fields)
