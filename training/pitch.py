"""Fundamental frequency of clean synthetic speech by normalised autocorrelation (Boersma, 1993)."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

HOP = 480
WINDOW = 1200  # 50 ms at 24 kHz: three periods of the lowest pitch
LOWEST, HIGHEST = 60.0, 500.0
VOICED = 0.5  # of the autocorrelation at the period, relative to lag zero
QUIET = 0.02  # of the loudest frame's amplitude: below it nothing is voiced


def f0(waveform: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the pitch float32 [N // 480] in Hz of a waveform float32 [N], 50 frames/s; 0 where there is none."""
    count = len(waveform) // HOP
    padded = np.pad(waveform.astype(np.float64), (WINDOW // 2 - HOP // 2, WINDOW))
    frames = sliding_window_view(padded, WINDOW)[::HOP][:count] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, 4096)) ** 2
    window_power = np.abs(np.fft.rfft(np.hanning(WINDOW), 4096)) ** 2
    first, last = int(rate / HIGHEST), int(rate / LOWEST)
    correlation = np.fft.irfft(power)[:, : last + 1]
    window = np.fft.irfft(window_power)[: last + 1]
    normal = correlation / (correlation[:, :1] + 1e-9) / (window / window[0])
    search = normal[:, first:]
    peak = search.max(axis=1)
    # The first lag nearly as good as the best: the best may be a multiple of the period.
    is_top = (search[:, 1:-1] >= search[:, :-2]) & (search[:, 1:-1] >= search[:, 2:])
    good = is_top & (search[:, 1:-1] > 0.9 * peak[:, None])
    lag = first + 1 + good.argmax(axis=1)
    level = np.sqrt(correlation[:, 0].clip(min=0))
    voiced = good.any(axis=1) & (peak > VOICED) & (level > QUIET * level.max())
    return np.where(voiced, rate / lag, 0.0).astype(np.float32)


def classes(pitch: torch.Tensor, count: int) -> torch.Tensor:
    """Sort pitches in Hz into `count` classes: 0 voiceless, the others even in octaves from 60 to 500 Hz."""
    octaves = torch.log2(pitch.clamp(LOWEST, HIGHEST) / LOWEST) / np.log2(HIGHEST / LOWEST)
    return torch.where(pitch > 0, 1 + (octaves * (count - 2)).round().long(), 0)
