"""Long recordings, cut where they are quietest."""

import math

import numpy as np

from client.speech import Clip

_WINDOW_SECONDS = 0.2
_FILL = 0.8  # of the longest part: the rest is the room in which a quiet place is looked for


def cut(clip: Clip, max_seconds: float) -> list[Clip]:
    """Return `clip` in parts of at most `max_seconds` (2.5 or more), cut in the quietest 0.2 s near equal shares."""
    if clip.seconds <= max_seconds:
        return [clip]
    parts = math.ceil(clip.seconds / (_FILL * max_seconds))
    share = len(clip.waveform) / parts
    slack = int((1 - _FILL) / 2 * max_seconds * clip.sample_rate)
    places = [_quietest(clip, round(share * number), slack) for number in range(1, parts)]
    return [Clip(part, clip.sample_rate) for part in np.split(clip.waveform, places)]


def _quietest(clip: Clip, around: int, slack: int) -> int:
    """Return the middle of the window with the least energy within `slack` samples of `around`."""
    window = round(_WINDOW_SECONDS * clip.sample_rate)
    start = around - slack
    energy = np.cumsum(np.square(clip.waveform[start : around + slack], dtype=np.float64))
    return start + int(np.argmin(energy[window:] - energy[:-window])) + window // 2
