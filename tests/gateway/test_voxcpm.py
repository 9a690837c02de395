"""VoxCPM's paths: three kinds of bodies, three kinds of chunks, and errors in its form."""

import base64
import io
import struct
import sys
import types

import httpx
import numpy as np
import pytest
import soundfile

from client.errors import ServerUnavailable
from gateway.voices import VoiceLibrary
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import tone_wav

pytestmark = pytest.mark.anyio
STREAM, WHOLE = "/api/tts/stream", "/api/tts"
RATE = 44_100
FILE = {"prompt_audio": ("me.wav", tone_wav(), "audio/wav")}


def wav_files(body: bytes) -> list[np.ndarray]:
    """Split a run of WAV files by the sizes in their headers, as clients do."""
    found = []
    while body:
        size = 8 + struct.unpack("<I", body[4:8])[0]
        with soundfile.SoundFile(io.BytesIO(body[:size])) as file:
            assert (file.samplerate, file.channels, file.subtype, file.format) == (RATE, 1, "PCM_16", "WAV")
            found.append(file.read(dtype="float32"))
        body = body[size:]
    return found


async def test_each_chunk_is_a_whole_wav_file(http: httpx.AsyncClient) -> None:
    answer = await http.post(STREAM, data={"text": "hello"})
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-accel-buffering"] == "no"
    chunks = wav_files(answer.content)
    assert len(chunks) > 1
    assert sum(map(len, chunks)) == pytest.approx(SECONDS * RATE, abs=2)


async def test_chunks_join_without_seams(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    chunks = np.concatenate(wav_files((await http.post(STREAM, data={"text": "hello"})).content))
    moments = np.arange(len(chunks)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 300 * len(backend.jobs) * moments)
    middle = slice(RATE // 50, -RATE // 50)
    assert np.abs(chunks - tone)[middle].max() < 1e-3


async def test_a_file_that_grows_plays_whole(http: httpx.AsyncClient) -> None:
    body = (await http.post(STREAM, data={"text": "hello", "chunk_format": "wav"})).content
    assert body.count(b"RIFF") == 1
    assert body[4:8] == b"\xff\xff\xff\xff"
    bare = await http.post(STREAM, data={"text": "hello", "chunk_format": "pcm"})
    assert bare.headers["content-type"] == "audio/pcm"
    assert len(bare.content) == pytest.approx(2 * SECONDS * RATE, abs=4)


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"text": "hello", "inference_timesteps": "7", "cfg_value": "3.5"}},
        {"data": {"text": "hello", "inference_timesteps": "7", "cfg_value": "3.5"}, "files": {"x": b""}},
        {"json": {"text": "hello", "inference_timesteps": 7, "cfg_value": 3.5}},
    ],
    ids=["urlencoded", "multipart", "json"],
)
@pytest.mark.parametrize("path", [STREAM, WHOLE])
async def test_bodies_come_in_three_kinds(http: httpx.AsyncClient, backend: FakeBackend, path: str, body: dict) -> None:
    assert (await http.post(path, **body)).status_code == 200
    assert (backend.jobs[0].text, backend.jobs[0].steps, backend.jobs[0].guidance) == ("hello", 7, 2.5)


async def test_the_defaults_are_voxcpms(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    await http.post(WHOLE, data={"text": " two\n\n words "})
    job = backend.jobs[0]
    assert (job.text, job.steps, job.guidance, job.sampling.max_tokens) == ("two words", 5, 1.0, None)


async def test_a_whole_file_states_its_length(http: httpx.AsyncClient) -> None:
    form = {"text": "hello", "retry_badcase": "true", "retry_badcase_max_times": "2", "max_len": "100"}
    answer = await http.post(WHOLE, data=form)
    assert int(answer.headers["content-length"]) == len(answer.content)
    (speech,) = wav_files(answer.content)
    assert len(speech) == pytest.approx(SECONDS * RATE, abs=2)


async def test_a_recording_is_cloned_and_a_voice_wins_over_it(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    form = {"text": "hello", "prompt_text": "my words"}
    assert (await http.post(STREAM, data=form, files=FILE)).status_code == 200
    assert backend.jobs[0].prompt_text == "my words"
    assert len(backend.jobs[0].clip.waveform) == 24_000
    encoded = base64.b64encode(FILE["prompt_audio"][1]).decode()
    assert (await http.post(STREAM, json={**form, "prompt_audio": encoded})).status_code == 200
    np.testing.assert_array_equal(backend.jobs[1].clip.waveform, backend.jobs[0].clip.waveform)
    assert (await http.post(STREAM, data={"text": "hello", "voice_id": "happy_en"}, files=FILE)).status_code == 200
    assert backend.jobs[2].prompt_text == VoiceLibrary().find("happy_en").prompt_text


async def test_denoise_cleans_the_recording_first(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    form = {"text": "hello", "prompt_text": "my words", "denoise": "true"}
    assert (await http.post(WHOLE, data=form, files=FILE)).status_code == 200
    assert [job.mode for job in backend.jobs] == ["denoise", "clone"]
    assert len(backend.jobs[1].clip.waveform) == SECONDS * 24_000, "the clone gets what denoising gave"


async def test_a_missing_text_is_422_with_a_list(http: httpx.AsyncClient) -> None:
    for body in ({"data": {"cfg_value": "2"}}, {"json": {}}, {}):
        answer = await http.post(STREAM, **body)
        assert answer.status_code == 422
        assert [(found["type"], found["loc"]) for found in answer.json()["detail"]] == [("missing", ["body", "text"])]


@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("text", {"text": " \n "}),
        ("cfg_value", {"cfg_value": "9"}),
        ("cfg_value", {"cfg_value": "nan"}),
        ("cfg_value", {"cfg_value": "much"}),
        ("inference_timesteps", {"inference_timesteps": "0"}),
        ("inference_timesteps", {"inference_timesteps": "51"}),
        ("min_len", {"min_len": "9", "max_len": "8"}),
        ("max_len", {"max_len": "5000"}),
        ("prompt_text", {"prompt_text": "words without a recording"}),
        ("nobody", {"voice_id": "nobody"}),
        ("chunk_format", {"chunk_format": "mp3"}),
        ("prompt_audio", {"prompt_audio": "no base64!", "prompt_text": "x"}),
        ("4096", {"text": "x" * 4097}),
    ],
)
async def test_wrong_values_are_400_before_the_first_byte(
    http: httpx.AsyncClient, backend: FakeBackend, field: str, form: dict[str, str]
) -> None:
    answer = await http.post(STREAM, data={"text": "hello", **form})
    assert (answer.status_code, list(answer.json())) == (400, ["detail"])
    assert field in answer.json()["detail"]
    assert not backend.jobs


async def test_other_bodies_are_refused(http: httpx.AsyncClient) -> None:
    for kind, content, status in (
        ("text/plain", b"text=hello", 415),
        ("application/json", b"{bad", 400),
        ("application/json", b"[1]", 400),
        ("multipart/form-data; boundary=x", b"--y", 400),
    ):
        answer = await http.post(STREAM, content=content, headers={"content-type": kind})
        assert (answer.status_code, list(answer.json())) == (status, ["detail"]), answer.text


async def test_models_that_fail_say_so(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.loaded = ()
    answer = await http.post(WHOLE, data={"text": "hello"})
    assert answer.status_code == 503
    assert "step_audio_editx_base" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "5"


async def test_voices_are_listed_with_their_words(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/api/voices")).json()["voices"]
    assert [voice["id"] for voice in listed[:2]] == ["default", "fear_female"]
    assert all(set(voice) == {"id", "description", "text"} and voice["text"] for voice in listed)
    for voice in listed:
        assert (await http.post(WHOLE, data={"text": "hello", "voice_id": voice["id"]})).status_code == 200


async def test_without_a_gpu_the_status_says_so(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    answer = await http.get("/api/gpu/status")
    assert (answer.status_code, answer.json()) == (200, {"error": "CUDA not available"})


class NVMLError(Exception):
    """As of the package."""


def nvml(**functions: object) -> types.SimpleNamespace:
    quiet = {"nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetHandleByIndex": lambda _: "gpu 0"}
    return types.SimpleNamespace(NVMLError=NVMLError, nvmlMemory_v2=2, **{**quiet, **functions})


async def test_a_gpu_s_memory_is_told_in_gib(
    http: httpx.AsyncClient, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = types.SimpleNamespace(used=3 * 2**30, reserved=2**29)
    driver = nvml(nvmlDeviceGetName=lambda _: "A GPU", nvmlDeviceGetMemoryInfo=lambda *_, **__: memory)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    expected = {"memory_allocated_gb": 3.0, "memory_reserved_gb": 3.5, "device_name": "A GPU"}
    assert (await http.get("/api/gpu/status")).json() == {"model_loaded": True, **expected}
    backend.offloaded = True
    assert (await http.get("/api/gpu/status")).json() == {"model_loaded": False, **expected}


async def test_a_driver_that_fails_is_no_gpu(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise NVMLError

    for name in ("nvmlInit", "nvmlDeviceGetName"):
        driver = nvml(**{"nvmlDeviceGetMemoryInfo": lambda *_, **__: None, name: fail})
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        assert (await http.get("/api/gpu/status")).json() == {"error": "CUDA not available"}


async def test_models_leave_and_come_back_with_the_next_request(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    assert (await http.post("/api/gpu/offload")).json() == {"status": "offloaded"}
    assert backend.offloaded
    assert (await http.post(WHOLE, data={"text": "hello"})).status_code == 200
    assert not backend.offloaded
    backend.failure = ServerUnavailable("gone")
    answer = await http.post("/api/gpu/offload")
    assert (answer.status_code, list(answer.json())) == (503, ["detail"])
