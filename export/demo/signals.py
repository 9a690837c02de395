"""Speech-like sound to calibrate random networks on: syllables of pulses or noise through formants, and pauses."""

import numpy as np
from numpy.typing import NDArray

RATE = 16_000


def speech_like(seed: int, seconds: float) -> NDArray[np.float32]:
    """Return [16000 * seconds] samples in [-1, 1]; the same seed gives the same sound."""
    random = np.random.default_rng(seed)
    samples = int(RATE * seconds)
    room = 10 ** random.uniform(-5.5, -1.5)
    waveform = (room * random.standard_normal(samples)).astype(np.float32)
    position = 0
    while position < samples:
        length = int(random.integers(RATE // 16, RATE // 4))
        if random.random() < 0.85:
            syllable = _syllable(random, length)[: samples - position]
            waveform[position : position + len(syllable)] += syllable
        position += length
    return waveform.clip(-1, 1)


def _syllable(random: np.random.Generator, length: int) -> NDArray[np.float32]:
    time = np.arange(length) / length
    if random.random() < 0.6:
        pitch = np.interp(time, [0, 0.5, 1], random.uniform(80, 320) * random.uniform(0.8, 1.25, 3))
        excitation = -np.diff(np.cumsum(pitch / RATE) % 1.0, prepend=0.0)  # one pulse per period
    else:
        excitation = random.standard_normal(length)
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    centres = np.sort(random.uniform([200, 700, 1800, 3000], [900, 2500, 3500, 7000]))
    widths = random.uniform(60, 400, 4)
    gains = random.uniform(0.2, 1.0, 4)
    envelope = (gains / (1 + ((frequency[:, None] - centres) / widths) ** 2)).sum(axis=1)
    envelope /= (1 + frequency / 500) ** random.uniform(0, 3)
    sound = np.fft.irfft(np.fft.rfft(excitation) * envelope, length) * np.sin(np.pi * time) ** 0.5
    return (sound / (np.abs(sound).max() + 1e-9) * 10 ** random.uniform(-2, 0)).astype(np.float32)
