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
    tempo = Tempo(rate, clip.sample_rate)
    return Clip(np.concatenate([tempo.write(clip.waveform), tempo.close()]), clip.sample_rate)


class Tempo:
    """Plays speech that comes piece by piece at `rate` times its tempo.

    All pieces together have their length divided by `rate`, to the sample. A rate of 1 passes them on as they are; else
    FFmpeg keeps back 0.1 s of what came at most.

    Args:
        sample_rate: Hz of the pieces.
    """

    def __init__(self, rate: float, sample_rate: int):
        self._rate = rate
        self._sample_rate = sample_rate
        self._graph = None if rate == 1.0 else _graph(rate, sample_rate)
        self._waiting = np.zeros(0, np.float32)
        self._taken = self._given = 0

    def write(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples [N] and return those that are ready. Blocks."""
        if self._graph is None:
            return waveform
        waveform = np.concatenate([self._waiting, waveform])
        # The filter keeps back a frame, and its sound depends on where frames begin.
        size = self._sample_rate // 50
        whole = len(waveform) - len(waveform) % size
        for start in range(0, whole, size):
            self._push(self._graph, waveform[start : start + size])
        self._waiting = waveform[whole:]
        ready = _pulled(self._graph)
        self._given += len(ready)
        return ready

    def close(self) -> NDArray[np.float32]:
        """Return the rest."""
        if self._graph is None:
            return self._waiting
        rest = np.zeros(round((self._taken + len(self._waiting)) / self._rate) - self._given, np.float32)
        if not len(rest):  # the filter would try to give a frame of no samples
            return rest
        if len(self._waiting):
            self._push(self._graph, self._waiting)
        self._graph.push(None)
        pulled = _pulled(self._graph)[: len(rest)]
        rest[: len(pulled)] = pulled
        return rest

    def _push(self, graph: av.filter.Graph, samples: NDArray[np.float32]) -> None:
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self._sample_rate
        frame.time_base = Fraction(1, self._sample_rate)
        frame.pts = self._taken
        graph.push(frame)
        self._taken += len(samples)


def _graph(rate: float, sample_rate: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=sample_rate, format="flt", layout="mono", time_base=Fraction(1, sample_rate))
    chain = [source]
    while rate < _SLOWEST_OF_ONE_FILTER:
        chain.append(graph.add("atempo", str(_SLOWEST_OF_ONE_FILTER)))
        rate /= _SLOWEST_OF_ONE_FILTER
    chain += [graph.add("atempo", f"{rate:.9f}"), graph.add("abuffersink")]
    for earlier, later in pairwise(chain):
        earlier.link_to(later)
    graph.configure()
    return graph


def _pulled(graph: av.filter.Graph) -> NDArray[np.float32]:
    pieces = [np.zeros(0, np.float32)]
    while True:
        try:
            pieces.append(graph.pull().to_ndarray().reshape(-1).astype(np.float32, copy=False))
        except (av.error.BlockingIOError, av.error.EOFError):  # wants more, or is done
            return np.concatenate(pieces)
