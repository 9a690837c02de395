"""Requests and recordings the tests share."""

import base64
import io
import wave
from typing import Any

import httpx
import numpy as np
import soundfile

SPEECH = "/v1/audio/speech"


def tone_wav(seconds: float = 1.0, rate: int = 24_000, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    time = np.arange(round(seconds * rate)) / rate
    mono = 0.4 * np.sin(2 * np.pi * 220 * time)
    file = io.BytesIO()
    soundfile.write(file, np.repeat(mono[:, None], channels, axis=1), rate, format="WAV", subtype=subtype)
    return file.getvalue()


def base64_wav(**how: Any) -> str:
    return base64.b64encode(tone_wav(**how)).decode()


def edit(mode: str, **options: Any) -> dict[str, Any]:
    return {"step_audio": {"mode": mode, "input_audio_base64": base64_wav(), **options}}


def wav_seconds(body: bytes) -> float:
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        return file.getnframes() / 24_000


def assert_error(answer: httpx.Response, status: int, code: str | None, param: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert answer.json()["detail"] == error["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return str(error["message"])
