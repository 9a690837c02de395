import io

import httpx
import pytest
import soundfile

from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import assert_error

pytestmark = pytest.mark.anyio


async def test_healthz_tells_whether_speech_can_be_made(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    ready = await http.get("/healthz")
    assert (ready.status_code, ready.content) == (200, b'{"status":"ok"}')
    backend.is_ready = False
    starting = await http.get("/healthz")
    assert (starting.status_code, starting.json()) == (503, {"status": "starting"})


async def test_models_are_listed_and_described(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]][:2] == ["step-audio-editx", "tts-1"]
    for card in listed["data"]:
        fields = {"id", "object", "created", "owned_by"}
        assert set(card) == (fields | {"variants"} if card["id"] == "step-audio-editx" else fields)
        assert (card["object"], type(card["created"])) == ("model", int)
        assert (await http.get(f"/v1/models/{card['id']}")).json() == card
    assert_error(await http.get("/v1/models/gpt-9"), 404, "model_not_found", "model")


async def test_the_speech_model_lists_the_weights_that_are_loaded(
    http: httpx.AsyncClient, backend: FakeBackend
) -> None:
    backend.loaded = ("base", "awq")
    assert (await http.get("/v1/models/step-audio-editx")).json()["variants"] == ["base", "awq"]
    backend.loaded = ()
    assert (await http.get("/v1/models")).json()["data"][0]["variants"] == []


async def test_voices_have_the_contracts_fields(http: httpx.AsyncClient) -> None:
    voices = (await http.get("/v1/voices")).json()
    assert [voice["id"] for voice in voices] == ["fear_female", "happy_en", "whisper_cn", "story_teller"]
    for voice in voices:
        assert {"id", "description", "prompt_audio", "prompt_text", "locale", "gender", "name", "object"} == set(voice)
        assert all(isinstance(value, str) and value for value in voice.values())
        recording = await http.get(voice["prompt_audio"])
        assert recording.headers["content-type"] == "audio/wav"
        assert soundfile.info(io.BytesIO(recording.content)).samplerate == 24_000
        assert (await http.get(f"/v1/voices/{voice['id']}")).json() == voice
    assert_error(await http.get("/v1/voices/nobody"), 404, "not_found", "voice")
    assert_error(await http.get("/v1/voices/nobody/audio"), 404, "not_found", "voice")


async def test_port_7861_lists_voices_by_name(http: httpx.AsyncClient) -> None:
    listed = await http.get("http://gateway:7861/v1/voices")
    assert listed.json()["voices"][0] == {"id": "fear_female", "name": "Fearful woman"}
    assert [voice["id"] for voice in listed.json()["voices"]][1:] == ["happy_en", "whisper_cn", "story_teller"]


def test_the_port_is_the_sockets_and_not_what_a_header_claims(live: str) -> None:
    assert isinstance(httpx.get(f"{live}/v1/voices", headers={"Host": "gateway:7861"}).json(), list)


async def test_tags_have_the_contracts_counts(http: httpx.AsyncClient) -> None:
    tags = (await http.get("/v1/tags")).json()["data"]
    assert [len(tags[mode]) for mode in ("emotion", "style", "speed", "paralinguistic")] == [15, 33, 4, 10]
    assert len(set(tags["paralinguistic_2026"])) == 22
    assert tags["clone"] == tags["vad"] == tags["denoise"] == []


async def test_unknown_paths_and_methods_get_the_envelope(http: httpx.AsyncClient) -> None:
    assert_error(await http.get("/v1/nope"), 404, "not_found")
    answer = await http.put("/v1/audio/speech")
    assert_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert (await http.put("/v1/voices")).headers["allow"] == "GET, POST"


async def test_every_answer_has_an_id_a_time_and_cors(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/tags", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["openai-version"] == "2020-10-01"
    assert answer.headers["openai-processing-ms"].isdigit()
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "X-StepAudio-Model" in answer.headers["access-control-expose-headers"]
    other = await http.get("/v1/tags")
    assert answer.headers["x-request-id"] != other.headers["x-request-id"]


async def test_documentation_is_served(http: httpx.AsyncClient) -> None:
    assert "/v1/audio/speech" in (await http.get("/openapi.json")).json()["paths"]
    assert (await http.get("/docs")).status_code == 200
    assert (await http.get("/redoc")).status_code == 200


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEYS", "one, two,")
    monkeypatch.setenv("GATEWAY_VOICE_ALIASES", '{"nova": "happy_en"}')
    monkeypatch.setenv("GATEWAY_PORT", "1234")
    settings = Settings()
    assert (settings.api_keys, settings.voice_aliases, settings.port) == (("one", "two"), {"nova": "happy_en"}, 1234)
    assert settings.host == "127.0.0.1"
    assert all(field.description for field in Settings.model_fields.values())
