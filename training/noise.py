"""Noise for clips that the networks must hear through, and that `denoise` must remove."""

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


def coloured(generator: np.random.Generator, length: int, slope: float) -> Waveform:
    """Return noise float32 [length] of unit power whose spectrum falls by `slope` (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (slope / 2)
    noise = np.fft.irfft(spectrum, length)
    return (noise / np.sqrt(np.mean(noise**2) + 1e-12)).astype(np.float32)


def hum(generator: np.random.Generator, length: int, rate: int) -> Waveform:
    """Return mains hum float32 [length] of unit power: 50 or 60 Hz and its overtones."""
    time = np.arange(length) / rate
    orders = np.arange(1, 8)[:, None]
    amplitude = generator.random((7, 1)) / orders
    tone = (
        amplitude * np.sin(2 * np.pi * (generator.choice((50, 60)) * orders * time + generator.random((7, 1))))
    ).sum(0)
    return (tone / np.sqrt(np.mean(tone**2) + 1e-12)).astype(np.float32)


def add(generator: np.random.Generator, waveform: Waveform, rate: int, decibels: float) -> Waveform:
    """Return `waveform` with some kind of noise at a signal-to-noise ratio of `decibels`; the peak stays below one."""
    kind = generator.integers(4)
    noise = hum(generator, len(waveform), rate) if kind == 3 else coloured(generator, len(waveform), float(kind))
    level = np.sqrt(np.mean(waveform**2)) * 10 ** (-decibels / 20)
    noisy = waveform + np.float32(level) * noise
    return noisy / max(1.0, np.abs(noisy).max() / 0.95)
