"""The running server's refusals over HTTP, and the project's own client."""

import base64
import io
import subprocess
import sys

import httpx
import numpy as np
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
