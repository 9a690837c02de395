import base64
import io

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from client.speech import Clip
from gateway.cuts import cut
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, wav_seconds

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


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "parts"), [("denoise", 3), ("vad", 3), ("emotion", 1)])
async def test_only_edits_without_words_are_cut(
    http: httpx.AsyncClient, backend: FakeBackend, mode: str, parts: int
) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(50 * RATE) / 9) / 2, RATE, format="OGG", subtype="VORBIS")
    options = {"mode": mode, "input_audio_base64": base64.b64encode(file.getvalue()).decode()}
    options |= {"edit_info": "happy", "audio_text": "words"} if mode == "emotion" else {}
    answer = await http.post(SPEECH, json={"step_audio": options})
    assert answer.status_code == 200, answer.text
    assert sum(job.clip.seconds for job in backend.jobs) == pytest.approx(50.0)
    assert len(backend.jobs) == parts
    assert wav_seconds(answer.content) == pytest.approx(parts * SECONDS)
