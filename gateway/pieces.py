"""Long texts, cut where a speaker would breathe, and their speech put together again."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from client.speech import Clip
from gateway.tags import DIALECT

# Rough speaking rates, only to cut pieces of like length: about four Chinese characters or fifteen letters a second.
_SECONDS_PER_CJK, _SECONDS_PER_OTHER = 0.25, 0.065
_FIRST_CJK = "\u2e80"

_CLOSING = "[\"'”’）)」』】]*"
_PARAGRAPH = re.compile(r"\s*\n\s*")
_SENTENCE = re.compile(rf"(?:[。！？!?；;…]+|\.+(?=\s|$|[\"'”’）)])){_CLOSING}\s*")
_CLAUSE = re.compile(rf"[，,、：:—](?!\d){_CLOSING}\s*")
_WORD = re.compile(r"\s+")
_TAG = re.compile(r"\[[^\[\]]{1,40}\]")
_DIALECT = re.compile(rf"\s*\[(?:{'|'.join(DIALECT)})\]", re.IGNORECASE)
_PAUSES = ((_PARAGRAPH, 0.6), (_SENTENCE, 0.3), (_CLAUSE, 0.15))


@dataclass(frozen=True)
class Piece:
    """A part of a text to speak in one go, and the seconds of silence that follow it."""

    text: str
    pause: float


def speaking_seconds(text: str) -> float:
    """Estimate how long `text` takes to say."""
    chinese = sum(letter >= _FIRST_CJK for letter in text)
    return chinese * _SECONDS_PER_CJK + (len(text) - chinese) * _SECONDS_PER_OTHER


def split(text: str, max_seconds: float) -> list[Piece]:
    """Cut `text` into pieces of at most about `max_seconds`.

    Cuts lie between paragraphs or sentences, inside a long sentence between clauses, else between words. A tag in
    brackets is never cut, and a dialect tag in front of the text goes in front of every piece.
    """
    if speaking_seconds(text) <= max_seconds:
        return [Piece(text, 0.0)]
    dialect = _DIALECT.match(text)
    prefix = dialect[0].strip() if dialect else ""
    pieces = [part for part in _packed(text[len(dialect[0]) if dialect else 0 :], max_seconds) if part.strip()]
    pauses = [*map(pause_after, pieces[:-1]), 0.0]
    return [Piece(prefix + part.strip(), pause) for part, pause in zip(pieces, pauses, strict=True)]


@dataclass(frozen=True)
class Break:
    """A place where a text may be cut.

    Attributes:
        position: index of the letter after it.
        share: how much of the text's speaking time lies before it, 0 to 1; tags take none.
        pause: seconds that a speaker rests there.
    """

    position: int
    share: float
    pause: float


def breaks(text: str) -> list[Break]:
    """Return where `text` may be cut, in order: after words, between Chinese letters, never inside a tag."""
    tagged = {index for tag in _TAG.finditer(text) for index in range(*tag.span())}
    spent = [0.0 if index in tagged else speaking_seconds(letter) for index, letter in enumerate(text)]
    before = list(accumulate(spent, initial=0.0))
    between_chinese = [end for end in range(1, len(text)) if text[end - 1] >= _FIRST_CJK and end - 1 not in tagged]
    pauses = dict.fromkeys([*between_chinese, *_ends(text, _WORD)], 0.0)
    for boundary, seconds in reversed(_PAUSES):
        pauses |= dict.fromkeys(_ends(text, boundary), seconds)
    return [Break(end, before[end] / before[-1], pauses[end]) for end in sorted(pauses) if 0 < before[end] < before[-1]]


def with_pause(clip: Clip, seconds: float) -> Clip:
    """Return `clip` with `seconds` of silence after it."""
    silence = np.zeros(round(seconds * clip.sample_rate), np.float32)
    return Clip(np.concatenate([clip.waveform, silence]), clip.sample_rate)


def _packed(text: str, max_seconds: float) -> Iterator[str]:
    """Give neighbouring parts together as long as they fit; parts too long for that are cut finer first."""
    held = ""
    for part in _parts(text, max_seconds, (_PARAGRAPH, _SENTENCE, _CLAUSE, _WORD)):
        if held.strip() and (speaking_seconds(held + part) > max_seconds):
            yield held
            held = ""
        held += part
    yield held


def _parts(text: str, max_seconds: float, boundaries: Sequence[re.Pattern[str]]) -> Iterator[str]:
    if not boundaries:
        yield from _by_force(text, max_seconds)
        return
    start = 0
    for end in [*_ends(text, boundaries[0]), len(text)]:
        part = text[start:end]
        start = end
        if speaking_seconds(part) <= max_seconds:
            yield part
        else:
            yield from _parts(part, max_seconds, boundaries[1:])


def _ends(text: str, boundary: re.Pattern[str]) -> list[int]:
    tags = [tag.span() for tag in _TAG.finditer(text)]
    ends = [found.end() for found in boundary.finditer(text)]
    return [end for end in ends if not any(first < end < last for first, last in tags)]


def _by_force(text: str, max_seconds: float) -> Iterator[str]:
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or speaking_seconds(text[start : end + 1]) > max_seconds:
            yield text[start:end]
            start = end


def pause_after(part: str) -> float:
    """Return the seconds that a speaker rests after `part`, by its last sign."""
    for boundary, seconds in _PAUSES:
        if any(found.end() == len(part) for found in boundary.finditer(part)):
            return seconds
    return 0.0
