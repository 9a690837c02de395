import base64
import io
import json
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
import soundfile

from client.errors import DeadlineExceeded, InvalidInput, ModelFailed, QueueFull, ServerUnavailable
from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, base64_wav, edit

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "content", [b"{bad", b'{"input": "\xff"}', b"", b"[" * 100_000, b'{"input": ' + b"9" * 5000 + b"}"]
)
async def test_a_body_that_is_not_json(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await http.post(SPEECH, content=content, headers=JSON)
    assert_error(answer, 400, "invalid_json" if content else "missing_required_parameter")


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-type": "multipart/form-data"}, {}])
async def test_another_content_type(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert_error(await http.post(SPEECH, content=b'{"input":"x"}', headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": "  "}, "missing_required_parameter", "input"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": 5}, "invalid_value", "input"),
        ({"input": "x" * 4097}, "invalid_value", "input"),
        ({"input": "a \ud800 b"}, "invalid_value", "input"),
        ({"input": "stop <|EOT|> here"}, "invalid_value", "input"),
        ({"input": "a<audio_5>"}, "invalid_value", "input"),
        ({"input": "x", "voice": "nobody"}, "invalid_voice", "voice"),
        ({"input": "x", "voice": {"id": 5}}, "invalid_value", "voice"),
        ({"input": "x", "response_format": "ogg"}, "invalid_value", "response_format"),
        ({"input": "x", "speed": 5}, "invalid_value", "speed"),
        ({"input": "x", "stream": "maybe"}, "invalid_value", "stream"),
        ({"input": "x", "metadata": {"a": [1]}}, "invalid_value", "metadata.a"),
        ({"input": "x", "metadata": {"": "x"}}, "invalid_value", "metadata"),
        ({"input": "x", "metadata": {"a": "张" * 1000}}, "invalid_value", "metadata"),
        ({"input": "x", "step_audio": []}, "invalid_value", "step_audio"),
        ({"input": "x", "step_audio": {"mode": "sing"}}, "invalid_value", "step_audio.mode"),
        ({"input": "x", "step_audio": {"intensity": 0.09}}, "invalid_value", "step_audio.intensity"),
        ({"input": "x", "step_audio": {"intensity": 3.1}}, "invalid_value", "step_audio.intensity"),
        ({"input": "x", "step_audio": {"n_edit_iter": 5}}, "invalid_value", "step_audio.n_edit_iter"),
        ({"input": "x", "step_audio": {"max_tokens": 3001}}, "invalid_value", "step_audio.max_tokens"),
        ({"input": "x", "step_audio": {"seed": -1}}, "invalid_value", "step_audio.seed"),
        ({"input": "x", "step_audio": {"model_variant": "nosuch"}}, "invalid_value", "step_audio.model_variant"),
        (
            {"input": "x", "step_audio": {"model_variant": "bnb"}},
            "model_variant_unavailable",
            "step_audio.model_variant",
        ),
        ({"input": "x", "step_audio": {"prompt_audio_base64": "!"}}, "prompt_text_required", "step_audio.prompt_text"),
        (
            {"input": "x", "step_audio": {"mode": "emotion", "edit_info": "happy"}},
            "missing_required_parameter",
            "step_audio.input_audio_base64",
        ),
        (edit("emotion", audio_text="x"), "missing_required_parameter", "step_audio.edit_info"),
        (edit("emotion", edit_info="happy"), "audio_text_required", "step_audio.audio_text"),
        (edit("emotion", edit_info="<|BOT|>", audio_text="x"), "invalid_value", "step_audio.edit_info"),
        (edit("emotion", edit_info="happy", audio_text="<audio_1>"), "invalid_value", "step_audio.audio_text"),
        (edit("speed", edit_info="9x", audio_text="x"), "invalid_value", "step_audio.edit_info"),
        (edit("speed", edit_info="10%"), "invalid_value", "step_audio.edit_info"),
        (edit("paralinguistic", audio_text="x"), "missing_required_parameter", "input"),
    ],
)
async def test_a_fault_of_the_request(
    http: httpx.AsyncClient, backend: FakeBackend, body: dict[str, object], code: str, param: str
) -> None:
    answer = await http.post(SPEECH, content=json.dumps(body), headers=JSON)
    message = assert_error(answer, 400, code, param)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert message
    assert not backend.jobs


async def test_an_unknown_voice_is_told_the_known_ones(http: httpx.AsyncClient) -> None:
    answer = await http.post(SPEECH, json={"input": "x", "voice": "nobody"})
    assert "happy_en" in assert_error(answer, 400, "invalid_voice", "voice")


async def test_an_unknown_model(http: httpx.AsyncClient) -> None:
    assert_error(await http.post(SPEECH, json={"input": "x", "model": "gpt-9"}), 404, "model_not_found", "model")


def _wav(samples: np.ndarray, rate: int = 24_000) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ("!!!", "base64"),
        ("data:audio/wav,abc", "data:"),
        ("", "empty"),
        (base64.b64encode(b"RIFF").decode(), "damaged"),
        (base64.b64encode(bytes(5000)).decode(), "damaged"),
        (base64.b64encode(b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.ts\n").decode(), "damaged"),
        (_wav(np.zeros(0)), "no sound"),
        (_wav(np.full(24_000, np.nan)), "NaN"),
        (_wav(np.zeros(8_000), rate=1_000), "1000 Hz"),
        (base64_wav(seconds=121, rate=4_000), "longer than 120 s"),
    ],
)
async def test_a_clip_that_cannot_be_used(http: httpx.AsyncClient, clip: str, reason: str) -> None:
    answer = await http.post(SPEECH, json={"step_audio": {"mode": "denoise", "input_audio_base64": clip}})
    assert reason in assert_error(answer, 400, "invalid_audio", "step_audio.input_audio_base64")


async def test_a_body_over_the_limit(http: httpx.AsyncClient, settings: Settings) -> None:
    announced = await http.post(SPEECH, content=b"x" * (settings.max_body_bytes + 1), headers=JSON)
    assert_error(announced, 413, "payload_too_large")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1_000_000

    assert_error(await http.post(SPEECH, content=pieces(), headers=JSON), 413, "payload_too_large")


@pytest.mark.parametrize(
    ("failure", "status", "code", "param"),
    [
        (InvalidInput("audio", "must last 0.1 s or longer"), 400, "invalid_audio", "step_audio.input_audio_base64"),
        (InvalidInput("prompt_text", "holds a control token"), 400, "invalid_value", "step_audio.audio_text"),
        (InvalidInput("text", "holds a control token"), 400, "invalid_value", "input"),
        (InvalidInput("top_p", "is out of range"), 400, "invalid_value", "step_audio.top_p"),
        (InvalidInput("", "unexpected shape"), 400, "invalid_value", None),
        (QueueFull("queue full: 64 requests wait"), 429, "rate_limit_exceeded", None),
        (ServerUnavailable("gone"), 503, "service_unavailable", None),
        (DeadlineExceeded("too late"), 504, "timeout", None),
        (ModelFailed("CUDA out of memory. Tried to allocate"), 500, "cuda_out_of_memory", None),
        (ModelFailed("something broke"), 500, None, None),
        (RuntimeError("a bug in the gateway"), 500, None, None),
    ],
)
async def test_a_fault_of_the_backend(
    http: httpx.AsyncClient, backend: FakeBackend, failure: Exception, status: int, code: str | None, param: str | None
) -> None:
    backend.failure = failure
    answer = await http.post(SPEECH, json=edit("emotion", edit_info="happy", audio_text="words"))
    message = assert_error(answer, status, code, param)
    kinds = {400: "invalid_request_error", 429: "rate_limit_error", 503: "service_unavailable_error"}
    assert answer.json()["error"]["type"] == kinds.get(status, "server_error")
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert "a bug" not in message
    backend.failure = None
    assert (await http.post(SPEECH, json={"input": "still serving"})).status_code == 200


async def test_models_that_still_load(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.loaded = ()
    answer = await http.post(SPEECH, json={"input": "x"})
    assert_error(answer, 503, "service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_deadline_stops_the_work() -> None:
    backend = FakeBackend(delay=30.0)
    app = create_app(Settings(request_timeout_seconds=0.2), backend)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        assert_error(await http.post(SPEECH, json={"input": "x"}), 504, "timeout")
    assert backend.cancelled == 1


async def test_a_clip_beside_the_wrong_mode_is_not_taken(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    body = {"input": "x", "step_audio": {"mode": "clone", "input_audio_base64": base64_wav(), "audio_text": "words"}}
    assert (await http.post(SPEECH, json=body)).status_code == 200
    assert backend.jobs[0].prompt_text.startswith("楼下的灯")
