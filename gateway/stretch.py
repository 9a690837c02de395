"""Tempo without pitch: FFmpeg's `atempo` (WSOLA)."""

import re
from fractions import Fraction
from itertools import pairwise

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from client.speech import Clip

SLOWEST, FASTEST = 0.25, 4.0
_RATE = re.compile(r"(\d{1,4}(?:\.\d{1,6})?)\s*(x|%)?", re.IGNORECASE)
_SLOWEST_OF_ONE_FILTER = 0.5


def parse_rate(wording: str) -> float | None:
    """Return the rate that `0.8`, `0.8x` or `80%` states, `None` for other words. 2 is twice as fast."""
    found = _RATE.fullmatch(wording.strip())
    if not found:
        return None
    return float(found[1]) / (100.0 if found[2] == "%" else 1.0)


def stretch(clip: Clip, rate: float) -> Clip:
    """Return `clip` played at `rate` times its tempo: its length divided by `rate`, to the sample. Blocks."""
    if rate == 1.0:
        return clip
    target = round(len(clip.waveform) / rate)
    out = np.zeros(target, np.float32)
    stretched = _atempo(clip, rate)[:target]
    out[: len(stretched)] = stretched
    return Clip(out, clip.sample_rate)


def _atempo(clip: Clip, rate: float) -> NDArray[np.float32]:
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=clip.sample_rate, format="flt", layout="mono", time_base=Fraction(1, clip.sample_rate)
    )
    chain = [source]
    while rate < _SLOWEST_OF_ONE_FILTER:
        chain.append(graph.add("atempo", str(_SLOWEST_OF_ONE_FILTER)))
        rate /= _SLOWEST_OF_ONE_FILTER
    chain += [graph.add("atempo", f"{rate:.9f}"), graph.add("abuffersink")]
    for earlier, later in pairwise(chain):
        earlier.link_to(later)
    graph.configure()

    frame = av.AudioFrame.from_ndarray(clip.waveform[None], format="flt", layout="mono")
    frame.sample_rate = clip.sample_rate
    frame.time_base = Fraction(1, clip.sample_rate)
    frame.pts = 0
    graph.push(frame)
    graph.push(None)
    pieces: list[NDArray[np.float32]] = []
    while True:
        try:
            pieces.append(graph.pull().to_ndarray().reshape(-1).astype(np.float32, copy=False))
        except av.error.EOFError:
            return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
