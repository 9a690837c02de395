import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from client.speech import Clip
from gateway.app import create_app
from gateway.settings import Settings
from gateway.voice_store import NewVoice, StoreFull, VoiceStore
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, tone_wav

pytestmark = pytest.mark.anyio

FIELDS = {"name": "张三", "prompt_text": "my own words", "consent": "signed on paper", "locale": "zh-CN"}


def sample(data: bytes | None = None) -> dict[str, Any]:
    return {"audio_sample": ("me.wav", tone_wav(seconds=2.0, rate=44_100) if data is None else data, "audio/wav")}


async def test_a_voice_comes_speaks_and_goes(http: httpx.AsyncClient, backend: FakeBackend, settings: Settings) -> None:
    created = await http.post("/v1/voices", data=FIELDS, files=sample())
    assert created.status_code == 201, created.text
    card = created.json()
    assert (card["name"], card["prompt_text"], card["locale"]) == ("张三", "my own words", "zh-CN")
    assert (await http.get("/v1/voices")).json()[4:] == [card]
    assert (await http.get(f"/v1/voices/{card['id']}")).json() == card
    assert (await http.get(card["prompt_audio"])).content[:4] == b"RIFF"

    answer = await http.post(SPEECH, json={"input": "hello", "voice": {"id": card["id"]}})
    assert answer.status_code == 200
    job = backend.jobs[0]
    assert (job.prompt_text, job.clip.sample_rate, job.clip.seconds) == ("my own words", 44_100, 2.0)

    kept = json.loads((settings.custom_voices_dir / card["id"] / "voice.json").read_text(encoding="utf-8"))
    assert kept["consent"] == "signed on paper"
    deleted = await http.delete(f"/v1/voices/{card['id']}")
    assert deleted.json() == {"id": card["id"], "object": "voice.deleted", "deleted": True}
    assert_error(await http.delete(f"/v1/voices/{card['id']}"), 404, "not_found", "voice")
    assert_error(await http.post(SPEECH, json={"input": "hello", "voice": card["id"]}), 400, "invalid_voice", "voice")
    assert list(settings.custom_voices_dir.iterdir()) == []


async def test_the_same_voice_twice_is_one_voice(http: httpx.AsyncClient) -> None:
    first, again, other = [
        (await http.post("/v1/voices", data=FIELDS | {"name": name}, files=sample())).json()["id"]
        for name in ("a", "a", "b")
    ]
    assert first == again != other


async def test_openais_form(http: httpx.AsyncClient) -> None:
    data = {"name": "me", "consent": "cons_123", "prompt_text": "words"}
    created = (await http.post("/v1/audio/voices", data=data, files=sample())).json()
    assert set(created) == {"id", "object", "type", "name", "created_at"}
    assert (created["object"], created["type"], created["name"]) == ("audio.voice", "audio_sample", "me")
    assert created["created_at"] > 1_700_000_000
    unspoken = await http.post("/v1/audio/voices", data=data | {"prompt_text": ""}, files=sample())
    assert_error(unspoken, 400, "prompt_text_required", "prompt_text")
    deleted = (await http.delete(f"/v1/audio/voices/{created['id']}")).json()
    assert deleted == {"id": created["id"], "object": "audio.voice.deleted", "deleted": True}


@pytest.mark.parametrize(
    ("changes", "data", "status", "code", "param"),
    [
        ({"name": "x" * 65}, None, 400, "invalid_value", "name"),
        ({"name": None}, None, 400, "missing_required_parameter", "name"),
        ({"consent": None}, None, 400, "missing_required_parameter", "consent"),
        ({"prompt_text": None}, None, 400, "missing_required_parameter", "prompt_text"),
        ({"prompt_text": "<|EOT|>"}, None, 400, "invalid_value", "prompt_text"),
        ({}, b"no audio", 400, "invalid_audio", "audio_sample"),
        ({}, b"", 400, "invalid_audio", "audio_sample"),
        ({}, tone_wav(seconds=31, rate=4_000), 400, "invalid_audio", "audio_sample"),
    ],
)
async def test_a_voice_that_cannot_be_kept(
    http: httpx.AsyncClient, changes: dict[str, Any], data: bytes | None, status: int, code: str, param: str
) -> None:
    fields = {key: value for key, value in (FIELDS | changes).items() if value is not None}
    assert_error(await http.post("/v1/voices", data=fields, files=sample(data)), status, code, param)
    assert len((await http.get("/v1/voices")).json()) == 4


async def test_built_in_voices_cannot_be_deleted(http: httpx.AsyncClient) -> None:
    assert_error(await http.delete("/v1/voices/happy_en"), 404, "not_found", "voice")
    assert_error(await http.delete("/v1/voices/..%2F..%2Fetc"), 404, "not_found")


async def test_a_sample_over_ten_mebibytes(settings: Settings, backend: FakeBackend) -> None:
    app = create_app(settings.model_copy(update={"max_body_bytes": 20_000_000}), backend)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answer = await http.post("/v1/voices", data=FIELDS, files=sample(bytes(10 * 1024 * 1024 + 1)))
    assert_error(answer, 413, "payload_too_large", "audio_sample")


def test_the_sdk_brings_and_deletes_a_voice(live: str) -> None:
    sdk = openai.OpenAI(base_url=f"{live}/v1", api_key="x", max_retries=0)
    if not hasattr(sdk.audio, "voices"):
        pytest.skip("this version of the SDK has no audio.voices")
    created = sdk.audio.voices.create(
        name="me", consent="cons_1", audio_sample=("me.wav", tone_wav()), extra_body={"prompt_text": "words"}
    )
    assert created.id.startswith("voice_")


CLIP = Clip(np.full(16_000, 0.25, np.float32), 16_000)
NEW = NewVoice("a", "words", "yes")


def test_the_store_survives_a_restart_and_damage(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    store = VoiceStore(folder, 10)
    assert list(store) == []
    voice = store.add(NEW, CLIP)
    (folder / ".new-left-behind").mkdir()
    (folder / "voice_0123456789abcdef01234567").mkdir()
    assert list(VoiceStore(folder, 10)) == [voice]
    np.testing.assert_array_equal(voice.clip.waveform, CLIP.waveform)
    assert soundfile.info(voice.path).subtype == "FLOAT"


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    one, two = VoiceStore(tmp_path, 10), VoiceStore(tmp_path, 10)
    assert (list(one), list(two)) == ([], [])
    voice = one.add(NEW, CLIP)
    assert two.get(voice.id) == voice
    assert two.remove(voice.id)
    assert one.get(voice.id) is None
    assert not one.remove(voice.id)


def test_the_store_has_an_end(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path, 1)
    store.add(NEW, CLIP)
    with pytest.raises(StoreFull):
        store.add(NewVoice("b", "words", "yes"), CLIP)
    store.add(NEW, CLIP)


def test_ids_cannot_leave_the_store(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path, 1)
    store.add(NEW, CLIP)
    for odd in ("../x", "", ".", "voice_", "voice_0123456789abcdef0123456Z"):
        assert store.get(odd) is None
        assert not store.remove(odd)
