import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.speech_recognizer import _detector
from python_backend.asr.detector import RATE, SHORTEST_PIECE, WINDOW, SpeechDetector, cuts
from python_backend.voice.resample import resample
from tests.e2e.triton_inputs import clip

LONGEST = 30 * RATE


@pytest.fixture(scope="module")
def detector():
    return SpeechDetector(_detector())


def test_speech_is_told_from_silence(detector):
    speech = resample(*clip(), RATE)
    audio = np.concatenate([np.zeros(2 * RATE, np.float32), speech])
    probabilities = detector.probabilities(audio)
    assert probabilities.shape == (-(-len(audio) // WINDOW),)
    assert probabilities[: 2 * RATE // WINDOW].max() < 0.2
    assert np.median(probabilities[2 * RATE // WINDOW :]) > 0.8


def test_every_length_has_its_windows(detector):
    for samples in (1, WINDOW, WINDOW + 1, 5000):
        assert len(detector.probabilities(np.zeros(samples, np.float32))) == -(-samples // WINDOW)


def test_short_audio_is_not_cut():
    assert cuts(np.ones(LONGEST // WINDOW, np.float32), LONGEST, LONGEST) == []


def test_cuts_lie_in_pauses():
    windows = 80 * RATE // WINDOW
    probabilities = np.ones(windows, np.float32)
    for second in (12, 27, 41, 55, 70):
        middle = second * RATE // WINDOW
        probabilities[middle - 8 : middle + 8] = 0.01
    places = cuts(probabilities, windows * WINDOW, LONGEST)
    assert [round(place / RATE) for place in places] == [27, 55]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4000))
def test_no_piece_is_too_long_or_lost(seed, windows):
    probabilities = np.random.default_rng(seed).random(windows).astype(np.float32)
    samples = windows * WINDOW - seed % WINDOW
    bounds = [0, *cuts(probabilities, samples, LONGEST), samples]
    lengths = np.diff(bounds)
    assert lengths.max() <= LONGEST
    assert (lengths[:-1] >= SHORTEST_PIECE).all()
    assert lengths[-1] > 0
