"""From a recording to its words: decode, cut, recognise the pieces side by side, give them in order."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from client.errors import InvalidInput, SpeechError
from client.recognition import MODEL, RATE, Description, Segment
from client.speech import Clip
from gateway.errors import ApiError, TimedOut, TranscriptionFailed, Unavailable, from_backend, from_neighbour
from gateway.metrics import Metrics
from gateway.models import RECOGNIZER_ALIASES
from gateway.ordered import in_order
from gateway.permits import Permits
from gateway.recordings import Recordings
from gateway.settings import Settings

log = logging.getLogger(__name__)

OWNER = "FunAudioLLM"
LANGUAGES = {"zh": "chinese", "en": "english", "yue": "cantonese", "ja": "japanese", "ko": "korean"}
"""What can be recognised: codes and the names that OpenAI's verbose answers use."""


class Recognizer(Protocol):
    """Recognises speech. `client.recognition.TritonRecognizer` is the real one. Methods may raise `SpeechError`."""

    async def describe(self) -> Description | None:
        """Return what the recogniser is, `None` where it is not loaded."""
        ...

    async def cuts(self, clip: Clip) -> Sequence[int]:
        """Return at which samples to cut a long clip."""
        ...

    async def recognize(self, clip: Clip, language: str) -> list[Segment]:
        """Return what is said in `clip`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True)
class Transcript:
    """What is said in a recording of `seconds`; `language` is the one spoken longest, empty where nobody speaks."""

    segments: tuple[Segment, ...]
    seconds: float

    @property
    def text(self) -> str:
        """All words."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def language(self) -> str:
        """The language spoken longest, empty where nobody speaks."""
        spoken: dict[str, float] = {}
        for segment in self.segments:
            spoken[segment.language] = spoken.get(segment.language, 0.0) + segment.end - segment.start
        return max(spoken, key=lambda language: spoken[language], default="")


class TranscriptionService:
    """Serves recordings of any length, many at once.

    Args:
        recognizer: does the work; `None` where there is none.
        recordings: decodes files.
        settings: bounds.
        metrics: told of every recording.
    """

    def __init__(self, recognizer: Recognizer | None, recordings: Recordings, settings: Settings, metrics: Metrics):
        self._recognizer = recognizer
        self._recordings = recordings
        self._settings = settings
        self._metrics = metrics
        self._permits = Permits(settings.max_concurrent, settings.max_waiting)
        metrics.watch("active_transcriptions", "Recordings worked on.", lambda: self._permits.active)

    async def describe(self) -> Description | None:
        """Return what the loaded recogniser is, `None` where there is none or nobody answers."""
        try:
            return await self._recognizer.describe() if self._recognizer else None
        except SpeechError as error:
            log.warning("the recogniser does not say what it is: %s", error)
            return None

    async def models(self) -> Mapping[str, tuple[str, str]]:
        """Return the names to ask for the recogniser by, each with its maker and what it is; none if none is loaded."""
        description = await self.describe()
        if description is None:
            return {}
        names = {
            description.model: description.note,
            **dict.fromkeys(RECOGNIZER_ALIASES, f"alias of {description.model}"),
        }
        return {name: (OWNER, what) for name, what in names.items()}

    async def read(self, data: bytes, param: str) -> Clip:
        """Decode one file.

        Raises:
            ApiError: no recogniser is loaded, or the file cannot be used; names `param`.
        """
        await self._loaded()
        return await self._recordings.decode(data, self._settings.max_transcription_seconds, param, RATE)

    async def transcribe(self, clip: Clip, language: str = "auto", param: str = "file") -> Transcript:
        """Return everything that is said in `clip`.

        Raises:
            ApiError: it is refused, or failed.
        """
        return Transcript(tuple([segment async for segment in self.segments(clip, language, param)]), clip.seconds)

    async def segments(self, clip: Clip, language: str = "auto", param: str = "file") -> AsyncGenerator[Segment, None]:
        """Give what is said in `clip` as it is recognised, in order.

        Args:
            clip: a recording.
            language: `auto` or one of `LANGUAGES`.
            param: the request's field it came from.

        Raises:
            ApiError: it is refused, or failed.
        """
        started = time.perf_counter()
        async with self._taken_on(param) as recognizer:
            places = [0, *await recognizer.cuts(clip), len(clip.waveform)]
            parts = [Clip(part, clip.sample_rate) for part in np.split(clip.waveform, places[1:-1])]
            moments = [place / clip.sample_rate for place in places[:-1]]
            pieces = [_piece(recognizer, *piece, language) for piece in zip(parts, moments, strict=True)]
            async with aclosing(in_order(pieces, self._settings.pieces_at_once, staggered=False)) as found:
                async for segment in found:
                    yield segment
        self._metrics.transcription(time.perf_counter() - started, clip.seconds)

    async def automatic(self) -> bool:
        """Tell whether the words of clips that come without them are found out."""
        return self._settings.auto_transcribe and await self.describe() is not None

    async def words_of(self, clip: Clip, param: str) -> str:
        """Return the words of a clip that came without them.

        Raises:
            TranscriptionFailed: nothing is said in it; names `param`.
            ApiError: the recogniser failed.
        """
        words = (await self.transcribe(clip, param=param)).text
        if not words:
            log.warning("Audio transcription failed: no words found in %.1f s", clip.seconds)
            raise TranscriptionFailed(f"{param}: no words were found in the clip; send them", param=param)
        return words

    @asynccontextmanager
    async def _taken_on(self, param: str) -> AsyncIterator[Recognizer]:
        """Hold a permit, for as long as a request may last, and say what goes wrong in the caller's terms."""
        recognizer = await self._loaded()
        seconds = self._settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._permits.one():
                yield recognizer
        except TimeoutError:
            raise TimedOut(f"the transcript was not ready within {seconds:g} s") from None
        except SpeechError as error:
            raise _refusal(error, param) from error

    async def _loaded(self) -> Recognizer:
        try:
            loaded = self._recognizer and await self._recognizer.describe()
        except SpeechError as error:
            raise _refusal(error, "") from error
        if not self._recognizer or not loaded:
            raise Unavailable(f"the model {MODEL} is not loaded", retry_after=30)
        return self._recognizer


def _refusal(error: SpeechError, param: str) -> ApiError:
    if isinstance(error, InvalidInput):
        return from_backend(error, {"audio": param})
    return from_neighbour(error, MODEL, {})


async def _piece(recognizer: Recognizer, clip: Clip, offset: float, language: str) -> AsyncGenerator[Segment, None]:
    for segment in await recognizer.recognize(clip, language):
        yield segment.later(offset)
