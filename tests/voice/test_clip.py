"""Checks, levels and trimming of a clip, against what the original does to its own example clips."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from python_backend.errors import InvalidInput
from python_backend.voice import clip
from python_backend.voice.mel import MEL_RATE, log_mel
from python_backend.voice.resample import resample
from tests.tokenizer_golden import CLIPS, arrays, prepared, source

EXAMPLES = Path(os.environ.get("STEP_AUDIO_EXAMPLES", Path(__file__).resolve().parents[2] / "../shared/examples_wav"))

# file: trimmed from, to, samples after trimming, mel frames; and where known mean and standard deviation of the mel
EXAMPLE_CLIPS = {
    "denoise_prompt": (5504, 252416, 251280, 801, None),
    "en_happy_prompt": (1536, 115328, 118320, 372, None),
    "fear_zh_female_prompt": (1152, 77440, 80640, 252, (-5.27617, 2.74041)),
    "paralingustic_prompt": (768, 67840, 71520, 223, None),
    "speed_prompt": (1280, 59008, 62160, 198, None),
    "vad_prompt": (7424, 129664, 126720, 428, (-4.27992, 2.72853)),
    "whisper_prompt": (2816, 112640, 114240, 366, None),
    "zero_shot_en_prompt": (384, 77696, 81840, 251, None),
}


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason=f"the original's example clips are not at {EXAMPLES}")
@pytest.mark.parametrize("name", EXAMPLE_CLIPS)
def test_the_original_s_example_clips_come_out_as_there(name):
    begin, end, samples, frames, level = EXAMPLE_CLIPS[name]
    waveform, rate = soundfile.read(EXAMPLES / f"{name}.wav", dtype="float32")
    limited = clip.limit_peak(waveform)
    speech = clip.normalise(resample(limited, rate, clip.TOKEN_RATE))
    assert clip.speech_bounds(speech) == (begin, end)
    assert len(clip.trim(speech)) == samples
    mel = log_mel(resample(limited, rate, MEL_RATE))
    assert mel.shape == (80, frames)
    if level:
        np.testing.assert_allclose((mel.mean(), mel.std()), level, atol=1e-4)


@pytest.mark.parametrize("name", CLIPS)
def test_preparation_is_the_original_s_sample_by_sample(name):
    golden = arrays(name)
    speech = clip.normalise(resample(*source(name), clip.TOKEN_RATE))
    assert clip.speech_bounds(speech) == tuple(golden["trim_index"])
    trimmed = prepared(name)
    assert len(trimmed) == golden["pre_len"]
    if "pre" in golden:
        np.testing.assert_allclose(trimmed, golden["pre"], atol=1e-6)
    else:
        np.testing.assert_allclose(trimmed[:4000], golden["pre_head"], atol=1e-6)
        np.testing.assert_allclose(trimmed[-4000:], golden["pre_tail"], atol=1e-6)


def test_trim_keeps_what_the_clip_has_and_fills_the_rest_with_zeros():
    waveform = np.concatenate([np.zeros(8000), np.full(3200, 0.4), np.zeros(1600)]).astype(np.float32)
    assert clip.speech_bounds(waveform) == (7808, 11520)
    trimmed = clip.trim(waveform)
    assert len(trimmed) == 16 * 240 + 4320
    np.testing.assert_array_equal(trimmed[: len(waveform) - 7008], waveform[7008:])
    assert not trimmed[len(waveform) - 7008 :].any()

    loud_from_the_start = clip.trim(np.full(1000, 0.5, np.float32))
    assert len(loud_from_the_start) == 5 * 240 + 4320
    assert not loud_from_the_start[:800].any()
    assert (loud_from_the_start[800:1800] == 0.5).all()


def test_silence_is_not_trimmed():
    assert clip.speech_bounds(np.zeros(5000, np.float32)) == (0, 5000)


def test_peaks_are_limited_but_never_raised():
    loud, soft = np.array([0.1, -0.9], np.float32), np.array([0.1, -0.6], np.float32)
    np.testing.assert_allclose(clip.limit_peak(loud), loud / 0.9 * 0.6, rtol=1e-6)
    assert clip.limit_peak(soft) is soft
    np.testing.assert_allclose(clip.normalise(soft), soft / 0.6 * 0.999, rtol=1e-6)
    np.testing.assert_allclose(clip.normalise(soft * 0.001), soft * 0.0999, rtol=1e-6)


@pytest.mark.parametrize(
    ("waveform", "rate", "field", "words"),
    [
        (np.zeros(0, np.float32), 16_000, "audio", "at least 0.1 s"),
        (np.zeros(160, np.float32), 16_000, "audio", "lasts 0.010 s"),
        (np.zeros(61 * 16_000, np.float32), 16_000, "audio", "at most 60 s, lasts 61.00 s"),
        (np.full(16_000, np.nan, np.float32), 16_000, "audio", "NaN"),
        (np.full(16_000, np.inf, np.float32), 16_000, "audio", "infinite"),
        (np.zeros((2, 16_000), np.float32), 16_000, "audio", r"float32 \[n\]"),
        (np.zeros(16_000), 16_000, "audio", "float64"),
        (np.zeros(16_000, np.float32), 8_000, "sample_rate", "16000 to 192000 Hz, is 8000"),
        (np.zeros(16_000, np.float32), 192_001, "sample_rate", "192001"),
        (np.zeros(16_000, np.float32), -1, "sample_rate", "-1"),
    ],
)
def test_unusable_clips_are_refused_by_field(waveform, rate, field, words):
    with pytest.raises(InvalidInput, match=f"^{field}: .*{words}") as caught:
        clip.check(waveform, rate)
    assert caught.value.field == field


@pytest.mark.parametrize(("seconds", "rate"), [(0.1, 16_000), (60, 16_000), (1, 192_000), (1, 44_100)])
def test_clips_at_the_limits_are_taken(seconds, rate):
    clip.check(np.zeros(round(seconds * rate), np.float32), rate)
