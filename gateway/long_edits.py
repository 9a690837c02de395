"""Edits of recordings too long for one pass: in parts, each with the words that are probably spoken in it.

Where the words are given, nobody has marked when each is spoken. They are taken to be spoken evenly, pauses left out,
which tells about when each sentence ends; docs/decisions/long-edits.md says what that is worth.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from client.speech import MODES_WITHOUT_TRANSCRIPT, Clip, SpeechJob
from gateway.cuts import apart, cut, equal_cuts, quietest, slack_seconds
from gateway.pieces import Break, breaks, pause_after, speaking_seconds

_FRAME_SECONDS = 0.02
_SOUNDING = 0.1  # of the level of the clip's loud frames; what is quieter is a pause
_LOUD_PERCENTILE = 95
_PAUSE_WORTH = 10.0  # seconds that a cut may lie further off for each second that a speaker rests there


class Indivisible(ValueError):
    """The words are too few for a share in each part.

    Attributes:
        of_new_text: whether those of the new text are, else those of the transcript.
    """

    def __init__(self, *, of_new_text: bool):
        super().__init__("has too few words for the length of the recording")
        self.of_new_text = of_new_text


def divide(job: SpeechJob, max_seconds: float) -> list[tuple[SpeechJob, float]]:
    """Return the edits of at most `max_seconds` (5 or more) that do `job`, each with the seconds of pause after it.

    Raises:
        Indivisible: the transcript or the new text has no words for one of the parts.
    """
    targets = equal_cuts(job.clip, max_seconds)
    if not targets:
        return [(job, 0.0)]
    if job.mode in MODES_WITHOUT_TRANSCRIPT:
        return [(replace(job, clip=clip), 0.0) for clip in cut(job.clip, max_seconds)]
    spoken_by = _clock(job.clip)
    slack = slack_seconds(max_seconds)
    reach, nearby = 2 / 3 * slack, 1 / 3 * slack
    ends = _chosen(breaks(job.prompt_text), targets, lambda end: spoken_by(end.share), reach)
    if ends is None:
        raise Indivisible(of_new_text=False)
    seconds = [float(np.clip(spoken_by(end.share), t - reach, t + reach)) for end, t in zip(ends, targets, strict=True)]
    clips = apart(job.clip, [quietest(job.clip, second, nearby) for second in seconds])
    texts = _shared_out(job.text, [end.share for end in ends], job.clip.seconds)
    return _joined(job, clips, _cut(job.prompt_text, ends), texts, [end.pause for end in ends])


def with_own_words(job: SpeechJob, clips: Sequence[Clip], words: Sequence[str]) -> list[tuple[SpeechJob, float]]:
    """Return the edits that do `job` on its recording's parts `clips`, in which `words` are known to be spoken.

    Raises:
        Indivisible: the new text has no words for one of the parts.
    """
    ends = list(accumulate(map(speaking_seconds, words)))
    texts = _shared_out(job.text, [end / ends[-1] for end in ends[:-1]], sum(clip.seconds for clip in clips))
    return _joined(job, clips, words, texts, [pause_after(part) for part in words[:-1]])


def _joined(
    job: SpeechJob, clips: Sequence[Clip], transcripts: Sequence[str], texts: Sequence[str], pauses: Sequence[float]
) -> list[tuple[SpeechJob, float]]:
    return [
        (replace(job, clip=clip, prompt_text=transcript, text=text), pause)
        for clip, transcript, text, pause in zip(clips, transcripts, texts, [*pauses, 0.0], strict=True)
    ]


def _shared_out(text: str, shares: Sequence[float], seconds: float) -> list[str]:
    """Return the new text, a version of the transcript with tags, cut where the transcript is cut at `shares`."""
    if not text or not shares:
        return [text] * (len(shares) + 1)
    ends = _chosen(breaks(text), [share * seconds for share in shares], lambda end: end.share * seconds, reach=2.0)
    if ends is None:
        raise Indivisible(of_new_text=True)
    return _cut(text, ends)


def _chosen(
    found: Iterable[Break], targets: Iterable[float], time_of: Callable[[Break], float], reach: float
) -> list[Break] | None:
    """Return for each target, in seconds, the break that is nearest to it and best to rest at; `None` for too few."""
    left: list[Break] = list(found)
    chosen: list[Break] = []
    for target in targets:

        def cost(end: Break, target: float = target) -> tuple[bool, float]:
            off = abs(time_of(end) - target)
            return off > reach, off - _PAUSE_WORTH * end.pause

        if not left:
            return None
        chosen.append(min(left, key=cost))
        left = [end for end in left if end.position > chosen[-1].position]
    return chosen


def _cut(text: str, ends: Sequence[Break]) -> list[str]:
    places = [0, *(end.position for end in ends), len(text)]
    return [text[start:end].strip() for start, end in pairwise(places)]


def _clock(clip: Clip) -> Callable[[float], float]:
    """Return a function from the share of the words that is spoken to the seconds by which it is."""
    size = round(_FRAME_SECONDS * clip.sample_rate)
    frames = clip.waveform[: len(clip.waveform) // size * size].reshape(-1, size)
    level = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    sounding = level > _SOUNDING * np.percentile(level, _LOUD_PERCENTILE)
    if not sounding.any():  # silence: spoken evenly in its own way
        sounding[:] = True
    spoken = np.cumsum(sounding) / np.count_nonzero(sounding)

    def spoken_by(share: float) -> float:
        return float((np.searchsorted(spoken, share) + 1) * size / clip.sample_rate)

    return spoken_by
