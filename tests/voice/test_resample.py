"""The resampler against the golden waveforms and against its formula written out sample by sample."""

import math
import time

import numpy as np
import pytest

from python_backend.voice.clip import limit_peak
from python_backend.voice.resample import LOWPASS_WIDTH, ROLLOFF, resample
from tests.vocoder_golden import TOLERANCES, arrays

GOLDEN = arrays("golden_mel")
CASES = sorted(name for name in GOLDEN if name.endswith(("_wav16k", "_wav24k")))


@pytest.mark.parametrize("name", CASES)
def test_golden_waveforms(name):
    case, target = name.split("_")
    samples = GOLDEN[f"{case}_wav_i16"] / 32768 if f"{case}_wav_i16" in GOLDEN else GOLDEN[f"{case}_wav_f32"]
    waveform = limit_peak(samples.float().numpy().reshape(-1))
    found = resample(waveform, int(GOLDEN[f"{case}_sr"]), int(target[3:-1]) * 1000)
    golden = GOLDEN[name].numpy().reshape(-1)
    assert found.shape == golden.shape
    assert np.abs(found - golden).max() <= TOLERANCES["golden_mel"][name]["atol"]


def by_formula(waveform, rate, new_rate):
    """Each output sample as a windowed sinc over the whole input."""
    base = min(rate, new_rate) * ROLLOFF
    inputs, outputs = np.arange(len(waveform)) / rate, np.arange(math.ceil(len(waveform) * new_rate / rate)) / new_rate
    crossing = np.clip((inputs - outputs[:, None]) * base, -LOWPASS_WIDTH, LOWPASS_WIDTH)
    kernel = np.sinc(crossing) * np.cos(crossing * np.pi / LOWPASS_WIDTH / 2) ** 2 * base / rate
    return kernel @ waveform


@pytest.mark.parametrize(
    ("rate", "new_rate"),
    [(24_000, 16_000), (16_000, 24_000), (44_100, 16_000), (44_100, 24_000), (48_000, 24_000), (22_050, 24_000),
     (16_001, 16_000), (44_101, 24_000), (192_000, 16_000), (191_999, 16_000)],
)  # fmt: skip
@pytest.mark.parametrize("samples", [1, 700, 2001])
def test_any_pair_of_rates_follows_the_formula(rate, new_rate, samples):
    waveform = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    found = resample(waveform, rate, new_rate)
    assert found.dtype == np.float32
    # torchaudio's output times are float32, which shows where the rates have no common divisor.
    atol = 5e-4 if math.gcd(rate, new_rate) == 1 else 2e-5
    np.testing.assert_allclose(found, by_formula(waveform.astype(np.float64), rate, new_rate), atol=atol)


def test_equal_rates_change_nothing():
    waveform = np.ones(10, np.float32)
    assert resample(waveform, 16_000, 16_000) is waveform


def test_rates_without_a_common_divisor_stay_affordable():
    started = time.perf_counter()
    resample(np.zeros(191_999, np.float32), 191_999, 24_000)
    assert time.perf_counter() - started < 10
