import json
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, base64_wav, tone_wav, wav_seconds

pytestmark = pytest.mark.anyio

UPLOAD = f"{SPEECH}/upload"
EMOTION = {"mode": "emotion", "edit_info": "happy", "audio_text": "words"}


def form(payload: object, **clips: bytes) -> dict[str, Any]:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    files = {f"{side}_audio_file": ("clip.wav", data, "audio/wav") for side, data in clips.items()}
    return {"data": {"payload": text}, "files": files or {"unrelated": ("x", b"x")}}


async def test_an_edit_of_an_uploaded_file(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    payload = {"input": "x", "response_format": "wav", "step_audio": EMOTION}
    answer = await http.post(UPLOAD, **form(payload, input=tone_wav(seconds=2.0)))
    assert answer.status_code == 200, answer.text
    assert wav_seconds(answer.content) == SECONDS
    assert (backend.jobs[0].clip.seconds, backend.jobs[0].prompt_text) == (2.0, "words")


async def test_the_file_beats_the_payload(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    options = EMOTION | {"input_audio_base64": base64_wav(), "input_audio_url": "http://example.org/x.wav"}
    assert (await http.post(UPLOAD, **form({"step_audio": options}, input=tone_wav(seconds=2.0)))).status_code == 200
    assert backend.jobs[0].clip.seconds == 2.0


async def test_a_clone_takes_the_prompt_file(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    payload = {"input": "hello", "step_audio": {"prompt_text": "words"}}
    answer = await http.post(UPLOAD, **form(payload, prompt=tone_wav(seconds=3.0), input=tone_wav(seconds=2.0)))
    assert answer.status_code == 200
    assert (backend.jobs[0].mode, backend.jobs[0].clip.seconds) == ("clone", 3.0)


@pytest.mark.parametrize("options", [{}, {"step_audio": None}, {"step_audio": "x"}])
async def test_a_missing_extension_block_is_an_empty_one(
    http: httpx.AsyncClient, backend: FakeBackend, options: dict[str, object]
) -> None:
    assert (await http.post(UPLOAD, **form({"input": "hello", **options}))).status_code == 200
    assert backend.jobs[0].mode == "clone"


@pytest.mark.parametrize(
    ("payload", "code", "param"),
    [
        ("{bad", "invalid_json", "payload"),
        ("[" * 100_000, "invalid_json", "payload"),
        ("[]", "invalid_value", None),
        ({"input": "x", "voice": "nobody"}, "invalid_voice", "voice"),
        ({"input": "x", "step_audio": {"intensity": 9}}, "invalid_value", "step_audio.intensity"),
        ({"step_audio": EMOTION}, "missing_required_parameter", "step_audio.input_audio_base64"),
    ],
)
async def test_a_bad_payload(http: httpx.AsyncClient, payload: object, code: str, param: str | None) -> None:
    assert_error(await http.post(UPLOAD, **form(payload)), 400, code, param)


async def test_a_file_that_is_no_audio(http: httpx.AsyncClient) -> None:
    for data in (b"", b"not audio"):
        answer = await http.post(UPLOAD, **form({"step_audio": EMOTION}, input=data))
        assert_error(answer, 400, "invalid_audio", "input_audio_file")


async def test_a_body_that_is_no_such_form(http: httpx.AsyncClient) -> None:
    assert_error(await http.post(UPLOAD, files={"other": b"x"}), 400, "missing_required_parameter", "payload")
    assert_error(await http.post(UPLOAD, json={"payload": "{}"}), 415, "unsupported_media_type")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert_error(await http.post(UPLOAD, content=b"--y\r\n\r\n", headers=headers), 400, "invalid_form")
    headers = {"content-type": "multipart/form-data"}
    assert_error(await http.post(UPLOAD, content=b"zzz", headers=headers), 400, "invalid_form")


async def test_a_large_upload_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post(UPLOAD, **form({"step_audio": EMOTION}, input=bytes(3_000_000)))
    assert_error(answer, 413, "payload_too_large")
