"""Edits of recordings too long for one pass: in parts, each with the words that are probably spoken in it.

Nobody has marked when each word is spoken. The transcript is taken to be spoken evenly, pauses left out, which tells
about when each of its sentences ends; docs/decisions/long-edits.md says what that is worth.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from client.speech import MODES_WITHOUT_TRANSCRIPT, Clip, SpeechJob
from gateway.cuts import apart, cut, equal_cuts, quietest, slack_seconds
from gateway.pieces import Break, breaks

_FRAME_SECONDS = 0.02
_SOUNDING = 0.1  # of the level of the clip's loud frames; what is quieter is a pause
_LOUD_PERCENTILE = 95
_PAUSE_WORTH = 10.0  # seconds that a cut may lie further off for each second that a speaker rests there


class Indivisible(ValueError):
    """The words are too few for a share in each part."""


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
    seconds = [float(np.clip(spoken_by(end.share), t - reach, t + reach)) for end, t in zip(ends, targets, strict=True)]
    clips = apart(job.clip, [quietest(job.clip, second, nearby) for second in seconds])
    transcripts = _cut(job.prompt_text, ends)
    if job.text:  # a version of the transcript with tags
        length = job.clip.seconds
        same = _chosen(breaks(job.text), [end.share * length for end in ends], lambda end: end.share * length, reach)
        texts = _cut(job.text, same)
    else:
        texts = [""] * len(clips)
    pauses = [*(end.pause for end in ends), 0.0]
    return [
        (replace(job, clip=clip, prompt_text=transcript, text=text), pause)
        for clip, transcript, text, pause in zip(clips, transcripts, texts, pauses, strict=True)
    ]


def _chosen(
    found: Iterable[Break], targets: Iterable[float], time_of: Callable[[Break], float], reach: float
) -> list[Break]:
    """Return for each target, in seconds, the break that is nearest to it and best to rest at, in order."""
    left, chosen = list(found), []
    for target in targets:

        def cost(end: Break, target: float = target) -> tuple[bool, float]:
            off = abs(time_of(end) - target)
            return off > reach, off - _PAUSE_WORTH * end.pause

        if not left:
            raise Indivisible("has too few words for the length of the recording")
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
