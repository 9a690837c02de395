"""What the demo checkpoint is judged by, on sounds whose answer is known."""

import numpy as np
import pytest

from benchmarks import demo_measures as measures

RATE = 24_000


def tone(seconds: float, hertz: float = 150.0, level: float = 0.3) -> np.ndarray:
    """Return a buzz of a pitch, with a few overtones."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * sum(np.sin(2 * np.pi * hertz * order * time) / order for order in (1, 2, 3))).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    """Return nothing."""
    return np.zeros(int(seconds * RATE), dtype=np.float32)


@pytest.mark.parametrize(
    ("said", "wanted", "distance"),
    [
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("kitten", "sitting", 3),
        ("axbc", "abc", 1),
        ("bca", "abc", 2),
    ],
)
def test_errors(said: str, wanted: str, distance: int) -> None:
    assert measures.errors(said, wanted) == distance


def test_word_errors() -> None:
    assert measures.word_errors("the cat sat here", "the bat sat") == 2


def test_pauses_count_within_the_speech_and_from_a_quarter_second_on() -> None:
    spoken = np.concatenate([silence(1), tone(1), silence(0.6), tone(1), silence(0.1), tone(1), silence(1)])
    assert measures.pauses(spoken) == pytest.approx(0.6, abs=0.05)


def test_noise_is_heard_in_the_quiet_parts() -> None:
    spoken = np.concatenate([tone(1), silence(0.5), tone(1)])
    noisy = spoken + 0.01 * np.random.default_rng(0).standard_normal(len(spoken)).astype(np.float32)
    assert measures.signal_to_noise(spoken) - measures.signal_to_noise(noisy) > 30


def test_a_whisper_has_no_pitch() -> None:
    whisper = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert measures.unvoiced_share(whisper) > 0.9
    assert measures.unvoiced_share(tone(1)) < 0.1


def test_a_click_is_found_and_a_loud_sound_is_none() -> None:
    clean = tone(1)
    clicked = clean.copy()
    clicked[12_345] += 0.6
    assert measures.clicks(clean) == 0
    assert measures.clicks(clicked) > 0


def test_direct_current_and_clipping() -> None:
    assert measures.direct_current(tone(1)) < 1e-3
    assert measures.direct_current(tone(1) + 0.1) > 0.2
    assert measures.clipped_share(tone(1, level=0.3)) == 0
    assert measures.clipped_share(np.clip(tone(1, level=2.0), -0.99, 0.99)) > 0.1


def test_steps_and_mel_at_a_seam() -> None:
    clean, seam = tone(1), 12_000
    broken = clean.copy()
    broken[seam:] += 0.4
    near, away = measures.largest_steps(broken, [seam], 100)
    assert near > 0.35 > away
    noisy = clean.copy()
    noisy[seam - 480 : seam + 480] += 0.05 * np.random.default_rng(0).standard_normal(960).astype(np.float32)
    near, away = measures.mel_distance(noisy, clean, [seam], 480)
    assert near > 5 * away
