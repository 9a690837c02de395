"""Long recordings, cut where they are quietest."""

import math
from collections.abc import Sequence

import numpy as np

from client.speech import Clip

_WINDOW_SECONDS = 0.2
_FILL = 0.8  # of the longest part: the rest is the room in which a quiet place is looked for


def cut(clip: Clip, max_seconds: float) -> list[Clip]:
    """Return `clip` in parts of at most `max_seconds` (2.5 or more), cut in the quietest 0.2 s near equal shares."""
    slack = slack_seconds(max_seconds)
    places = [quietest(clip, second, slack) for second in equal_cuts(clip, max_seconds)]
    return apart(clip, places) if places else [clip]


def apart(clip: Clip, places: Sequence[int]) -> list[Clip]:
    """Return `clip` cut at `places`, in samples."""
    return [Clip(part, clip.sample_rate) for part in np.split(clip.waveform, places)]


def equal_cuts(clip: Clip, max_seconds: float) -> list[float]:
    """Return the seconds at which equal parts would end; cuts within `slack_seconds` keep them to `max_seconds`."""
    if clip.seconds <= max_seconds:
        return []
    parts = math.ceil(clip.seconds / (_FILL * max_seconds))
    return [clip.seconds * number / parts for number in range(1, parts)]


def slack_seconds(max_seconds: float) -> float:
    """Return how far a cut may lie from an equal one."""
    return (1 - _FILL) / 2 * max_seconds


def quietest(clip: Clip, around: float, slack: float) -> int:
    """Return the middle, in samples, of the 0.2 s with the least energy within `slack` seconds of `around`."""
    window = round(_WINDOW_SECONDS * clip.sample_rate)
    start = int((around - slack) * clip.sample_rate)
    energy = np.cumsum(np.square(clip.waveform[start : int((around + slack) * clip.sample_rate)], dtype=np.float64))
    return start + int(np.argmin(energy[window:] - energy[:-window])) + window // 2
