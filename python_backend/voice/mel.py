"""The 24 kHz log-mel spectrogram that the flow model takes of the prompt."""

import functools
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MEL_RATE = 24_000
MELS = 80
FFT = 1920
HOP = 480
HIGHEST = 8000.0
FLOOR = 1e-5
FRAMES_AT_ONCE = 512


def slaney_mel_filters(bins: int, fft: int, rate: int, highest: float) -> NDArray[np.float64]:
    """Return [fft / 2 + 1, bins]: area-normalised triangles on the mel scale of Slaney's Auditory Toolbox (1998).

    Linear below 1 kHz, logarithmic above; the same as `librosa.filters.mel(htk=False, norm="slaney")` from 0 Hz.
    """
    step, corner, log_step = 200.0 / 3, 1000.0, math.log(6.4) / 27
    top = highest / step if highest < corner else corner / step + math.log(highest / corner) / log_step
    mels = np.linspace(0.0, top, bins + 2)
    edges = np.where(mels < corner / step, mels * step, corner * np.exp(log_step * (mels - corner / step)))
    frequencies = np.arange(fft // 2 + 1) * (rate / fft)
    return triangles(frequencies, edges) * (2.0 / (edges[2:] - edges[:-2]))


def triangles(positions: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [len(positions), len(edges) - 2]: triangular filters over consecutive triples of `edges`."""
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (positions[:, None] - left) / (centre - left)
    falling = (right - positions[:, None]) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def log_mel(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a 24 kHz waveform float32 [N >= 721] into natural-log mel float32 [80, N // 480], 50 frames/s.

    As CosyVoice's Matcha-TTS front end: reflected ends, periodic Hann window, magnitude, 80 Slaney bins to 8 kHz.
    """
    padded = np.pad(waveform, (FFT - HOP) // 2, mode="reflect")
    frames = sliding_window_view(padded, FFT)[::HOP]
    mel = np.empty((len(frames), MELS), dtype=np.float32)
    for first in range(0, len(frames), FRAMES_AT_ONCE):  # bounds the memory a long clip takes
        spectrum = np.fft.rfft(frames[first : first + FRAMES_AT_ONCE] * _window())
        magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
        mel[first : first + FRAMES_AT_ONCE] = np.log(np.maximum(magnitude @ _filters(), FLOOR))
    return np.ascontiguousarray(mel.T)


def round_to_bfloat16(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round finite float32 values of any shape to the nearest bfloat16, ties to even, as a cast does."""
    bits = value.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


@functools.cache
def _window() -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)


@functools.cache
def _filters() -> NDArray[np.float64]:
    return slaney_mel_filters(MELS, FFT, MEL_RATE, HIGHEST)
