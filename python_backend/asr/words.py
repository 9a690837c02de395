"""CTC output to words with their times and to what the tags say."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from python_backend.asr.queries import LANGUAGES

BLANK = 0
FRAME_SECONDS = 0.06
HALF_FRAME = 0.03  # a frame stacks filterbank frames on both sides of its time
LONGEST_TAIL = 0.3  # CTC marks a sound by a frame or two within it; the word lasts until the next one, or so long
SPACE = "▁"
TAG = re.compile(r"<\|(.+)\|>")
EMOTIONS = frozenset({"happy", "sad", "angry", "neutral", "fearful", "disgusted", "surprised"})
EVENTS = frozenset({"bgm", "applause", "laughter", "cry", "sneeze", "cough"})
NEUTRAL = "neutral"


@dataclass(frozen=True)
class Word:
    """A word with the punctuation after it, or one Chinese or Japanese character.

    Attributes:
        text: with a leading space where the writing has one.
        start, end: seconds.
        tokens: ids.
        log_prob: sum over its tokens.
    """

    text: str
    start: float
    end: float
    tokens: tuple[int, ...]
    log_prob: float


@dataclass(frozen=True)
class Tags:
    """What a piece of audio is beside its words.

    Attributes:
        language: `zh`, `en`, `yue`, `ja`, `ko`, or empty.
        emotion: one of `EMOTIONS`, or empty.
        events: of `EVENTS`, each once.
    """

    language: str
    emotion: str
    events: tuple[str, ...]


class TokenDecoder:
    """Knows the tokens of a checkpoint.

    Args:
        path: the SentencePiece model.
    """

    def __init__(self, path: Path):
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        size = self._processor.get_piece_size()
        self._pieces: list[str] = [self._processor.id_to_piece(token) for token in range(size)]
        self._tags = {token: found[1] for token, piece in enumerate(self._pieces) if (found := TAG.fullmatch(piece))}
        control = (self._processor.is_control, self._processor.is_unknown)
        self._silent = {BLANK, *self._tags, *(token for token in range(size) if any(is_(token) for is_ in control))}

    def tags(self, tokens: Iterable[int]) -> Tags:
        """Return what the tags among `tokens` say; an emotion must be named more often than neutrality."""
        names = [self._tags[token].lower() for token in tokens if token in self._tags]
        emotions = Counter(name for name in names if name in EMOTIONS)
        strongest = max(emotions, key=lambda name: (emotions[name], name == NEUTRAL), default="")
        return Tags(
            language=next((name for name in names if name in LANGUAGES), ""),
            emotion=strongest,
            events=tuple(dict.fromkeys(name for name in names if name in EVENTS)),
        )

    def words(self, tokens: NDArray[np.int32], log_probs: NDArray[np.float32]) -> list[Word]:
        """Collapse the best path of CTC (Graves et al., 2006): repeats are one, blanks and tags nothing.

        Args:
            tokens: int32 [T], the most likely token of every frame.
            log_probs: float32 [T].

        Returns:
            Words in order; times count from the first frame.
        """
        begins = np.flatnonzero(np.diff(tokens, prepend=-1))
        ends = np.append(begins, len(tokens))[1:]
        groups: list[list[tuple[int, int, int]]] = []
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            token = int(tokens[begin])
            if token in self._silent:
                continue
            if not groups or self._starts_word(token, groups[-1][-1][0]):
                groups.append([])
            groups[-1].append((token, begin, end))
        starts = [_seconds(group[0][1]) for group in groups]
        limits = [*starts, _seconds(len(tokens))][1:]
        words = [self._word(group, limit, log_probs) for group, limit in zip(groups, limits, strict=True)]
        return [word for word in words if word.text.strip()]

    def _word(self, group: list[tuple[int, int, int]], limit: float, log_probs: NDArray[np.float32]) -> Word:
        ids = tuple(token for token, _, _ in group)
        text = self._processor.decode(list(ids)).strip()
        if self._pieces[ids[0]].startswith(SPACE) and text and not _stands_alone(text[0]):
            text = " " + text
        end = _seconds(group[-1][2])
        return Word(
            text=text,
            start=_seconds(group[0][1]),
            end=max(end, min(limit, end + LONGEST_TAIL)),
            tokens=ids,
            log_prob=float(sum(log_probs[begin:stop].mean() for _, begin, stop in group)),
        )

    def _starts_word(self, token: int, before: int) -> bool:
        piece, last = self._pieces[token], self._pieces[before]
        if piece.startswith(SPACE) or _stands_alone(piece[0]):
            return True
        return _stands_alone(last[-1]) and piece[0].isalnum()


def _seconds(frame: int) -> float:
    return max(0.0, round(frame * FRAME_SECONDS - HALF_FRAME, 3))


def _stands_alone(letter: str) -> bool:
    """Tell whether `letter` is of a script without spaces: Han, Hiragana, Katakana."""
    return "\u3040" <= letter <= "\u30ff" or "\u3400" <= letter <= "\u9fff" or "\uf900" <= letter <= "\ufaff"
