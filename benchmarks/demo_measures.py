"""What can be measured of speech: wrong words, pauses, noise, voice, and what joins sound like."""

import numpy as np
from numpy.typing import NDArray

from python_backend.voice.mel import MEL_RATE as RATE
from python_backend.voice.mel import log_mel
from training import pitch

Waveform = NDArray[np.float32]
FRAME = 480  # 20 ms
SPEECH_DECIBELS = 35.0  # below the loudest frame: what is quieter is no speech
SHORTEST_PAUSE = 0.25  # seconds; shorter ones belong to speech
CLIPPED = 0.985


def errors(said: str, wanted: str) -> int:
    """Return Levenshtein's distance in characters, or in words where both are lists of them."""
    return _distance(list(said), list(wanted))


def word_errors(said: str, wanted: str) -> int:
    """Return Levenshtein's distance in words."""
    return _distance(said.split(), wanted.split())


def _distance(said: list[str], wanted: list[str]) -> int:
    row = np.arange(len(wanted) + 1)
    for count, symbol in enumerate(said, 1):
        changed = row[:-1] + np.array([symbol != other for other in wanted], dtype=int)
        best = np.minimum(row[1:] + 1, changed)
        # An insertion costs one more than its left neighbour: a running minimum of values less their place.
        place = np.arange(1, len(wanted) + 1)
        row = np.concatenate([[count], np.minimum.accumulate(np.concatenate([[count], best - place]))[1:] + place])
    return int(row[-1])


def levels(waveform: Waveform) -> NDArray[np.float64]:
    """Return the level of each 20 ms in decibels relative to full scale, float64 [N // 480]."""
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    return 10 * np.log10(np.square(frames).mean(axis=1) + 1e-10)


def speech_frames(waveform: Waveform) -> NDArray[np.bool_]:
    """Mark the 20 ms frames that are no more than 35 dB below the loudest."""
    level = levels(waveform)
    return level > level.max() - SPEECH_DECIBELS


def pauses(waveform: Waveform) -> float:
    """Return the seconds of pauses of a quarter of a second and more between the first and the last speech."""
    spoken = np.flatnonzero(speech_frames(waveform))
    gaps = (np.diff(spoken) - 1) * FRAME / RATE
    return float(gaps[gaps >= SHORTEST_PAUSE].sum())


def signal_to_noise(waveform: Waveform) -> float:
    """Return the decibels between the loud and the quiet parts: the 90th and the 5th percentile of levels.

    What is quiet in clean synthetic speech is nearly silent, so the quiet parts tell how much noise there is.
    """
    low, high = np.percentile(levels(waveform), (5, 90))
    return float(high - low)


def unvoiced_share(waveform: Waveform) -> float:
    """Return which part of the frames with speech has no pitch."""
    spoken = speech_frames(waveform)
    return float((pitch.f0(waveform, RATE)[: len(spoken)][spoken] == 0).mean())


def direct_current(waveform: Waveform) -> float:
    """Return the mean relative to the root mean square."""
    return float(abs(waveform.mean()) / (np.sqrt(np.square(waveform).mean()) + 1e-9))


def clipped_share(waveform: Waveform) -> float:
    """Return which part of the samples is at the limit."""
    return float((np.abs(waveform) >= CLIPPED).mean())


def clicks(waveform: Waveform) -> int:
    """Count steps between samples far beyond those around them: ten times the local level of the difference."""
    step = np.diff(waveform.astype(np.float64))
    window = np.ones(FRAME) / FRAME
    around = np.sqrt(np.convolve(step**2, window, mode="same") * FRAME / (FRAME - 1) + 1e-8)
    # One sample cannot exceed sqrt(FRAME) times the level of a window that it is part of.
    return int((np.abs(step) > 10 * around).sum())


def largest_steps(waveform: Waveform, seams: list[int], reach: int) -> tuple[float, float]:
    """Return the largest step between samples within `reach` of a seam, and the largest elsewhere."""
    step = np.abs(np.diff(waveform.astype(np.float64)))
    near = np.zeros(len(step), dtype=bool)
    for seam in seams:
        near[max(0, seam - reach) : seam + reach] = True
    return float(step[near].max(initial=0.0)), float(step[~near].max(initial=0.0))


def mel_distance(one: Waveform, other: Waveform, seams: list[int], reach: int) -> tuple[float, float]:
    """Return the mean distance of two log-mels in frames within `reach` samples of a seam, and in the others."""
    size = min(len(one), len(other))
    distance = np.abs(log_mel(one[:size]) - log_mel(other[:size])).mean(axis=0)
    centre = (np.arange(len(distance)) + 0.5) * FRAME
    near = np.zeros(len(distance), dtype=bool)
    for seam in seams:
        near |= np.abs(centre - seam) <= reach
    return tuple(float(part.mean()) if len(part) else 0.0 for part in (distance[near], distance[~near]))  # type: ignore[return-value]
