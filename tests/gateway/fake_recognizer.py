"""A recogniser that says what it is told to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from client.recognition import Description, Segment, Word
from client.speech import Clip


def segment(text: str, start: float = 0.0, end: float = 1.0, **other: object) -> Segment:
    words = text.split() or [text]
    step = (end - start) / len(words)
    known = {
        "language": "en",
        "emotion": "neutral",
        "events": (),
        "log_prob": -0.25,
        "no_speech": 0.1,
        "tokens": tuple(range(3, 3 + len(words))),
        "words": tuple(Word(f" {word}", start + i * step, start + (i + 1) * step) for i, word in enumerate(words)),
    }
    return Segment(text, start, end, **{**known, **other})


HELLO = (segment(" Hello there.", 0.1, 0.9), segment(" How are you?", 1.2, 2.0))


@dataclass
class FakeRecognizer:
    """Gives `found` for every piece of a clip."""

    found: Sequence[Segment] = HELLO
    loaded: bool = True
    failure: Exception | None = None
    failing_piece: int = 0
    places: Sequence[int] = ()
    delays: Sequence[float] = ()
    pieces: list[Clip] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    cancelled: int = 0
    closed: bool = False

    async def describe(self) -> Description | None:
        return Description("TinyVoice", "made up") if self.loaded else None

    async def cuts(self, clip: Clip) -> Sequence[int]:
        return [place for place in self.places if place < len(clip.waveform)]

    async def recognize(self, clip: Clip, language: str) -> list[Segment]:
        number = len(self.pieces)
        self.pieces.append(clip)
        self.languages.append(language)
        try:
            await asyncio.sleep(self.delays[number] if number < len(self.delays) else 0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure and number >= self.failing_piece:
            raise self.failure
        return list(self.found)

    async def close(self) -> None:
        self.closed = True
