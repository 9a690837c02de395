"""Words to segments: what one subtitle shows, or one line of a stream says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from python_backend.asr.words import Tags, Word

LONGEST_SECONDS = 12.0
PAUSE_SECONDS = 0.8
SENTENCE_ENDS = "。！？!?.…；;"
CLOSING = "\"'”’）)」』】]"


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, usually a sentence.

    Attributes:
        text: all segments' texts joined are the whole text; a leading space belongs to it.
        start, end: seconds from the beginning of the audio.
        words: with their times from the same beginning.
        tags: language, emotion and events of the piece of audio it is from.
        log_prob: mean over its tokens.
        no_speech: how likely nobody speaks there, 0 … 1.
    """

    text: str
    start: float
    end: float
    words: tuple[Word, ...]
    tags: Tags
    log_prob: float
    no_speech: float

    def as_json(self) -> dict[str, Any]:
        """Return what model `speech_recognizer` sends."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "language": self.tags.language,
            "emotion": self.tags.emotion,
            "events": list(self.tags.events),
            "log_prob": round(self.log_prob, 4),
            "no_speech": round(self.no_speech, 4),
            "tokens": [token for word in self.words for token in word.tokens],
            "words": [
                {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)} for word in self.words
            ],
        }


def grouped(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Give the words of each segment: up to a sentence's end, a pause, or the longest a segment may last."""
    held: list[Word] = []
    for word in words:
        if held and (word.start - held[-1].end > PAUSE_SECONDS or word.end - held[0].start > LONGEST_SECONDS):
            yield held
            held = []
        held.append(word)
        if word.text.rstrip(CLOSING)[-1:] in SENTENCE_ENDS:
            yield held
            held = []
    if held:
        yield held
