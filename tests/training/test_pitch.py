"""The pitch tracker on sounds whose pitch is known."""

import numpy as np
import pytest
import torch

from training import pitch

RATE = 24_000


def buzz(frequency: float, seconds: float) -> np.ndarray:
    """Make a sound with twenty harmonics."""
    time = np.arange(int(RATE * seconds)) / RATE
    return sum(np.sin(2 * np.pi * k * frequency * time) / k for k in range(1, 21)).astype(np.float32) * 0.2


@pytest.mark.parametrize("frequency", [70.0, 110.0, 163.0, 240.0, 333.0, 450.0])
def test_a_buzz_has_the_pitch_it_was_made_with(frequency: float) -> None:
    found = pitch.f0(buzz(frequency, 0.5), RATE)[3:-3]
    assert np.abs(found - frequency).max() < 0.02 * frequency


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert (pitch.f0(noise, RATE) > 0).mean() < 0.05
    assert not pitch.f0(np.zeros(RATE, dtype=np.float32), RATE).any()


def test_classes_keep_voiceless_apart_and_order_pitches() -> None:
    found = pitch.classes(torch.tensor([0.0, 60.0, 120.0, 240.0, 500.0, 900.0]), 24)
    assert found[0] == 0
    assert found[1] == 1
    assert (found[1:].diff() >= 0).all()
    assert found[-1] == found[-2] == 23
