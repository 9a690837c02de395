import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.speech import Clip
from gateway.cuts import cut

RATE = 16_000


def noise(seconds: float, *silent_at: float) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)
    for second in silent_at:
        samples[round((second - 0.2) * RATE) : round((second + 0.2) * RATE)] = 0
    return samples


def test_a_short_recording_stays_whole() -> None:
    clip = Clip(noise(30.0), RATE)
    assert cut(clip, 30.0) == [clip]


def test_cuts_lie_in_pauses() -> None:
    parts = cut(Clip(noise(60.0, 18.5, 41.5), RATE), 30.0)
    ends = np.cumsum([part.seconds for part in parts])
    np.testing.assert_allclose(ends, [18.5, 41.5, 60.0], atol=0.15)
    assert all(abs(part.waveform[0]) < 1e-6 for part in parts[1:])


@given(st.floats(2.0, 40.0), st.floats(2.5, 10.0))
def test_parts_are_short_enough_and_make_the_whole(seconds: float, max_seconds: float) -> None:
    clip = Clip(noise(seconds), RATE)
    parts = cut(clip, max_seconds)
    np.testing.assert_array_equal(np.concatenate([part.waveform for part in parts]), clip.waveform)
    assert all(0 < part.seconds <= max_seconds + 1e-3 for part in parts)
