"""The running server as its users call it: plain HTTP, the official SDK, the project's own client."""

import base64
import io
import subprocess
import sys

import httpx
import numpy as np
import openai
import pytest
import soundfile

from tests.e2e.triton_inputs import CLIP_TEXT, VOICES
from tests.servers import ROOT

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


def speech(http, **body):
    return http.post("/v1/audio/speech", json={"model": "step-audio-editx", **body})


def test_plain_http_gives_a_true_wav(http):
    answer = speech(http, voice="happy_en", input="Hello there.")
    assert answer.headers["Content-Type"] == "audio/wav"
    content = answer.content
    with soundfile.SoundFile(io.BytesIO(content)) as wav:
        assert (wav.samplerate, wav.channels, wav.subtype) == (24_000, 1, "PCM_16")
        waveform = wav.read(dtype="float32")
    assert 0.4 < len(waveform) / 24_000 < 6
    assert np.sqrt(np.mean(waveform**2)) > 0.01
    assert len(content) == 44 + 2 * len(waveform), "the header tells the true length"


def test_the_openai_sdk_speaks(server):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="anything")
    assert client.models.list().data[0].id == "step-audio-editx"
    answer = client.audio.speech.create(
        model="step-audio-editx", voice="story_teller", input="你好。", response_format="wav"
    )
    waveform, rate = soundfile.read(io.BytesIO(answer.content))
    assert rate == 24_000
    assert len(waveform) > 4800


def test_the_openai_sdk_sees_our_errors(server):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="anything", max_retries=0)
    with pytest.raises(openai.BadRequestError) as failure:
        client.audio.speech.create(model="step-audio-editx", voice="nobody", input="x")
    assert (failure.value.param, failure.value.code) == ("voice", "invalid_voice")


@pytest.mark.parametrize("mode", ["emotion", "style", "speed", "paralinguistic", "denoise", "vad"])
def test_every_edit_mode_answers(http, mode):
    tags = {"emotion": "happy", "style": "whisper", "speed": "faster"}
    extension = {"mode": mode, "edit_info": tags.get(mode), "max_tokens": 30}
    answer = speech(http, voice="happy_en", input="Well [Laughter] yes.", step_audio=extension)
    assert answer.status_code == 200, answer.text
    waveform, rate = soundfile.read(io.BytesIO(answer.content))
    assert (rate, len(waveform)) == (24_000, 6 * 2880)


@pytest.mark.parametrize(
    ("status", "param", "body"),
    [
        (400, "input", {"input": ""}),
        (400, "input", {"input": "say <|EOT|> now"}),
        (400, "input", {"input": "say <audio_7> now"}),
        (400, "voice", {"input": "x", "voice": "nobody"}),
        (400, "step_audio.mode", {"input": "x", "step_audio": {"mode": "sing"}}),
        (400, "step_audio.intensity", {"input": "x", "step_audio": {"intensity": 9}}),
        (400, "response_format", {"input": "x", "response_format": "tape"}),
    ],
)
def test_bad_requests_name_the_field(http, status, param, body):
    answer = speech(http, **body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_clip_that_is_too_long_or_no_audio_is_refused(http):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(61 * 16_000, 0.1), 16_000, format="WAV")
    for content in (buffer.getvalue(), b"not audio at all"):
        encoded = base64.b64encode(content).decode()
        extension = {"prompt_audio_base64": encoded, "prompt_text": "words"}
        answer = speech(http, input="x", step_audio=extension)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "invalid_audio"
    assert http.get("/healthz").json() == {"status": "ok"}


def test_the_client_speaks_and_edits(server, tmp_path):
    spoken, edited = tmp_path / "spoken.wav", tmp_path / "edited.wav"
    common = [sys.executable, "-m", "client"]
    address = ["--url", server.grpc_url]
    subprocess.run([*common, "speak", "Hello.", "--voice", "happy_en", "-o", spoken, *address], cwd=ROOT, check=True)
    edit = ["edit", VOICES / "happy_en.wav", "--mode", "emotion", "--tag", "happy", "--transcript", CLIP_TEXT]
    subprocess.run([*common, *edit, "-o", edited, *address], cwd=ROOT, check=True)
    for path in (spoken, edited):
        waveform, rate = soundfile.read(path)
        assert rate == 24_000
        assert len(waveform) > 4800
