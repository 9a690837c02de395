"""The prompt mel against the golden arrays, and its rounding against torch's."""

import numpy as np
import pytest
import torch

from python_backend.voice.clip import limit_peak
from python_backend.voice.mel import MEL_RATE, log_mel, round_to_bfloat16
from python_backend.voice.resample import resample
from tests.vocoder_golden import arrays, assert_golden

GOLDEN = arrays("golden_mel")


@pytest.mark.parametrize("case", range(1, 9))
def test_golden_mel(case):
    samples = GOLDEN[f"m{case}_wav_i16"] / 32768 if f"m{case}_wav_i16" in GOLDEN else GOLDEN[f"m{case}_wav_f32"]
    waveform = limit_peak(samples.float().numpy().reshape(-1))
    mel = log_mel(resample(waveform, int(GOLDEN[f"m{case}_sr"]), MEL_RATE))
    assert mel.dtype == np.float32
    assert mel.shape[0] == 80
    assert_golden("golden_mel", f"m{case}_mel", np.ascontiguousarray(mel.T)[None])


@pytest.mark.parametrize("samples", [721, 959, 960, 24_000 * 12 + 1])
def test_one_frame_per_20_ms(samples):
    assert log_mel(np.random.default_rng(0).standard_normal(samples).astype(np.float32)).shape == (80, samples // 480)


def test_rounding_is_that_of_a_cast_to_bfloat16():
    random = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 8
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, -0.0, 65_280.0], np.float32)
    values = np.concatenate([random, ties])
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(round_to_bfloat16(values), expected)
