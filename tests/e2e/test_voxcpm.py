"""VoxCPM's paths on the running server: chunks that leave while later ones are made, and models that come and go."""

import io
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import soundfile

from tests.e2e.triton_inputs import VOICES
from tests.servers import start

pytestmark = pytest.mark.server
TEXT = "你好，这是VoxCPM流式语音合成测试。"


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=180) as client:
        yield client


def speech_models(server):
    """Return what Triton says about the models that an offload concerns: name to state."""
    index = server.triton().get_model_repository_index().models
    return {
        model.name: model.state for model in index if model.name.startswith(("step_audio", "llm_", "flow", "voice"))
    }


def test_the_first_chunk_is_a_whole_file_and_leaves_early(http):
    arrivals, body = [], b""
    started = time.monotonic()
    with http.stream("POST", "/api/tts/stream", data={"text": TEXT, "max_len": "250"}) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_raw():
            body += chunk
            arrivals.append(time.monotonic() - started)
    sizes = []
    while body:
        size = 8 + struct.unpack("<I", body[4:8])[0]
        wav = soundfile.info(io.BytesIO(body[:size]))
        assert (wav.samplerate, wav.channels, wav.subtype) == (44_100, 1, "PCM_16")
        sizes.append(wav.frames)
        body = body[size:]
    assert len(sizes) > 2
    assert sum(sizes) == pytest.approx(50 * 2880 * 44_100 / 24_000, abs=44)
    assert arrivals[0] < 0.8 * arrivals[-1]


def test_more_guidance_and_steps_change_the_sound_and_not_its_length(http):
    def speak(**form):
        answer = http.post("/api/tts", data={"text": "Hi.", "voice_id": "happy_en", "max_len": "30", **form})
        assert answer.status_code == 200, answer.text
        return soundfile.read(io.BytesIO(answer.content))[0]

    plain, again, other = speak(), speak(), speak(cfg_value="4", inference_timesteps="3")
    assert (plain == again).all()
    assert len(other) == len(plain)
    assert (other != plain).any()


def test_an_own_recording_is_cleaned_and_cloned(http):
    files = {"prompt_audio": ("me.wav", (VOICES / "happy_en.wav").read_bytes(), "audio/wav")}
    form = {"text": "Hi.", "prompt_text": "words", "denoise": "true", "max_len": "30"}
    answer = http.post("/api/tts", data=form, files=files)
    assert answer.status_code == 200, answer.text
    assert soundfile.info(io.BytesIO(answer.content)).samplerate == 44_100


@pytest.fixture
def alone(tmp_path):
    """A server of the test's own: Triton never unloads a model that lost track of one of its requests."""
    running = start("--first-words", str(tmp_path / "first-words.wav"))
    yield running
    running.stop(within=40)


def test_offloaded_models_come_back_for_whoever_asks_next(alone):
    server, http = alone, httpx.Client(base_url=alone.url, timeout=60)
    assert set(speech_models(server).values()) == {"READY"}
    try:
        assert http.post("/api/gpu/offload").json() == {"status": "offloaded"}
        assert set(speech_models(server).values()) == {"UNAVAILABLE"}
        assert http.get("/healthz").json() == {"status": "ok"}, "it serves whoever asks"
        assert http.get("/v1/models").status_code == 200
    finally:
        with ThreadPoolExecutor(4) as pool:
            form = {"text": "Hi.", "max_len": "30"}
            answers = list(pool.map(lambda _: http.post("/api/tts", data=form), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text[:200] for answer in answers]
    assert set(speech_models(server).values()) == {"READY"}
    assert not any("restarting" in line for line in server.log)


def test_synthesize_speaks_in_each_style(http):
    waves = []
    for style in ("style1", "style2", "style3"):
        answer = http.post("/synthesize", data={"text": "Hi.", "style": style, "max_mel_tokens": "30"})
        assert answer.status_code == 200, answer.text
        waves.append(answer.content)
    assert len(set(waves)) == 3
    assert http.post("/synthesize", data={"style": "style1"}).json() == {"error": "Missing required parameter: text"}
