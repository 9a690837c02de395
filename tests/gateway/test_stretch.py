import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.speech import Clip
from gateway.stretch import Tempo, stretch

RATE = 24_000


@settings(deadline=None, max_examples=60)
@given(
    rate=st.floats(0.25, 4.0).map(lambda rate: round(rate, 3)),
    sizes=st.lists(st.integers(0, 12_000), min_size=1, max_size=8),
)
def test_pieces_add_up_to_the_sample_and_sound_as_the_whole(rate: float, sizes: list[int]) -> None:
    whole = (0.4 * np.sin(np.arange(sum(sizes)) / 20)).astype(np.float32)
    tempo = Tempo(rate, RATE)
    pieces = [tempo.write(piece) for piece in np.split(whole, np.cumsum(sizes)[:-1])]
    streamed = np.concatenate([*pieces, tempo.close()])
    assert len(streamed) == round(len(whole) / rate)
    np.testing.assert_allclose(streamed, stretch(Clip(whole, RATE), rate).waveform, atol=1e-6)


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
def test_little_is_kept_back(rate: float) -> None:
    ready = Tempo(rate, RATE).write(np.ones(RATE, np.float32))
    assert 0 <= 1 - len(ready) / RATE * rate < 0.11


@pytest.mark.parametrize("rate", [0.25, 1.5, 4.0])
@pytest.mark.parametrize("samples", [0, 1, 2, 3])
def test_next_to_nothing_is_stretched_too(rate: float, samples: int) -> None:
    assert len(stretch(Clip(np.ones(samples, np.float32), RATE), rate).waveform) == round(samples / rate)
