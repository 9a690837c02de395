"""A voice clip on its way to the tokenizers: checks, levels, and the silence around the speech cut off."""

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import InvalidInput

Waveform = NDArray[np.float32]

TOKEN_RATE = 16_000
LOWEST_RATE = TOKEN_RATE  # the tokenizers are not meant for upsampled audio
HIGHEST_RATE = 192_000
SHORTEST_SECONDS = 0.1  # shorter clips leave the speaker encoder too few frames to take a deviation of
LONGEST_SECONDS = 60

PEAK = np.float32(0.6)
QUIETEST_PEAK = 0.01

TRIM_DECIBELS = 20.0
TRIM_FRAME, TRIM_HOP = 512, 128
KEPT_BEFORE = 800  # 0.05 s
KEPT_AFTER = 3520  # 0.22 s
TRIM_UNIT = 240


def check(waveform: Waveform, rate: int) -> None:
    """Refuse a clip that the networks cannot use.

    Args:
        waveform: float32 [N].
        rate: samples per second.

    Raises:
        InvalidInput: the rate, the length or a sample is out of range.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InvalidInput("sample_rate", f"must be {LOWEST_RATE} to {HIGHEST_RATE} Hz, is {rate}")
    if waveform.ndim != 1 or waveform.dtype != np.float32:
        raise InvalidInput("audio", f"must be float32 [n], is {waveform.dtype} {list(waveform.shape)}")
    seconds = len(waveform) / rate
    if seconds < SHORTEST_SECONDS:
        raise InvalidInput("audio", f"must last at least {SHORTEST_SECONDS} s, lasts {seconds:.3f} s")
    if seconds > LONGEST_SECONDS:
        raise InvalidInput("audio", f"must last at most {LONGEST_SECONDS} s, lasts {seconds:.2f} s; send it in parts")
    if not np.isfinite(waveform).all():
        raise InvalidInput("audio", "holds NaN or infinite values")


def limit_peak(waveform: Waveform) -> Waveform:
    """Scale a clip [N] whose peak is above 0.6 down to that, as Step-Audio-EditX does on loading; never up."""
    peak = np.abs(waveform).max()
    return waveform / peak * PEAK if peak > PEAK else waveform


def normalise(waveform: Waveform) -> Waveform:
    """Bring the peak of [N] to 0.999; clips quieter than 0.01 are raised no further than that one."""
    peak = max(np.abs(waveform).max(), np.float32(QUIETEST_PEAK))
    return waveform / peak * np.float32(0.999)


def speech_bounds(waveform: Waveform) -> tuple[int, int]:
    """Return the first sample of the first and the end of the last frame within 20 dB of the loudest frame of [N].

    The same as `librosa.effects.trim(top_db=20, frame_length=512, hop_length=128)`.
    """
    padded = np.pad(waveform.astype(np.float64), TRIM_FRAME // 2)
    energy = np.concatenate([[0.0], np.cumsum(padded**2)])
    first = np.arange(0, len(padded) - TRIM_FRAME + 1, TRIM_HOP)
    power = np.maximum((energy[first + TRIM_FRAME] - energy[first]) / TRIM_FRAME, 1e-10)
    loud = np.flatnonzero(10.0 * np.log10(power / power.max()) > -TRIM_DECIBELS)
    return int(loud[0]) * TRIM_HOP, min(len(waveform), (int(loud[-1]) + 1) * TRIM_HOP)


def trim(waveform: Waveform) -> Waveform:
    """Cut silence from a 16 kHz clip [N], leaving 0.05 s before the speech and at least 0.22 s after it.

    What the clip itself does not have of that is filled with zeros; the result is a multiple of 15 ms, at least 0.27 s.
    """
    begin, end = speech_bounds(waveform)
    start = begin - KEPT_BEFORE
    length = -(-(end - begin) // TRIM_UNIT) * TRIM_UNIT + KEPT_BEFORE + KEPT_AFTER
    trimmed = np.zeros(length, dtype=np.float32)
    kept = waveform[max(start, 0) :][: length - max(-start, 0)]
    trimmed[max(-start, 0) :][: len(kept)] = kept
    return trimmed
