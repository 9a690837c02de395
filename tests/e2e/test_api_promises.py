"""Each promise of the HTTP API, kept by the running server. The demo's weights are random: sounds, not words."""

import base64
import io
import subprocess
import sys
import wave

import httpx
import numpy as np
import pytest
import soundfile

from tests.e2e.recordings import VOICES, decoded, recording, seconds_of

pytestmark = pytest.mark.server

SPEECH = "/v1/audio/speech"
WORDS = "楼下的灯忽然灭了，我不敢出声，好像有人正在上楼。"


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


def heard(answer, file_format="wav"):
    """Return the speech of an answer, which must be sound at 24 kHz or more precisely what its type says."""
    assert answer.status_code == 200, answer.text
    waveform, rate = decoded(answer.content, file_format)
    assert rate == 24_000
    assert np.abs(waveform).max() > 0.01, "silent"
    assert len(waveform) >= 2400
    return waveform


def speak(http, step_audio=None, **fields):
    block = {} if step_audio is None else {"step_audio": step_audio}
    return http.post(SPEECH, json={"model": "step-audio-editx", **fields, **block})


def edit(http, mode, clip, words=None, tag=None, **options):
    text = options.pop("input", "edit")
    block = {"mode": mode, "input_audio_base64": base64.b64encode(clip).decode(), "max_tokens": 50, **options}
    block |= {"audio_text": words} if words else {}
    block |= {"edit_info": tag} if tag else {}
    return speak(http, block, input=text, response_format="wav")


def test_health(http):
    assert http.get("/healthz").text == '{"status":"ok"}'


def test_models(http):
    listed = http.get("/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"][0]["id"] == "step-audio-editx"
    assert all(isinstance(card["created"], int) for card in listed["data"])


def test_voices(http):
    voices = http.get("/v1/voices").json()
    assert {"fear_female", "happy_en", "whisper_cn", "story_teller"} <= {voice["id"] for voice in voices}
    fields = {"id", "description", "prompt_audio", "prompt_text", "locale", "gender"}
    assert all(fields <= set(voice) for voice in voices)


def test_tags(http):
    tags = http.get("/v1/tags").json()["data"]
    assert [len(tags[mode]) for mode in ("emotion", "style", "speed", "paralinguistic")] == [15, 33, 4, 10]


def test_clone_of_a_built_in_voice(http):
    answer = speak(
        http,
        {"mode": "clone"},
        voice="happy_en",
        response_format="wav",
        input="Hi, this is the Happy English voice from Step-Audio-EditX.",
    )
    heard(answer)
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert len(answer.content) == 44 + 2 * file.getnframes(), "the header tells the true length"


def test_clone_of_ones_own_recording_as_mp3(http):
    encoded = base64.b64encode(recording("fear_female")).decode()
    block = {"mode": "clone", "prompt_text": WORDS, "prompt_audio_base64": encoded}
    heard(speak(http, block, response_format="mp3", input="今晚我们必须尽快撤离。"), "mp3")


def test_emotion_with_intensity(http):
    heard(edit(http, "emotion", recording("fear_female"), WORDS, "happy", intensity=2.3))


@pytest.mark.parametrize(("tag", "warned"), [("whisper", False), ("formal", True)])
def test_style_listed_or_not(http, tag, warned):
    answer = edit(http, "style", recording("fear_female"), WORDS, tag)
    heard(answer)
    assert ("not a listed style tag" in answer.headers.get("x-stepaudio-warning", "")) is warned


def test_paralinguistic(http):
    heard(
        edit(
            http,
            "paralinguistic",
            recording("story_teller"),
            "很久以前，",
            input="很久以前，[Laughter]山脚下住着渔夫。",
        )
    )


def test_numeric_speed_is_exact(http):
    clip = recording("whisper_cn")
    slower = heard(edit(http, "speed", clip, tag="0.8x"))
    assert len(slower) / 24_000 == pytest.approx(seconds_of(clip) / 0.8, rel=1e-3)


def test_speed_by_tag(http):
    heard(edit(http, "speed", recording("whisper_cn"), "小声一点，", "faster"))


def test_denoise_needs_no_words(http):
    heard(edit(http, "denoise", recording("happy_en")))


def test_vad_shortens(http):
    pause = np.zeros(2 * 24_000, np.float32)
    voice, _ = decoded(recording("happy_en"), "wav")
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([pause, voice, pause]), 24_000, format="WAV")
    assert len(heard(edit(http, "vad", file.getvalue()))) < len(voice) + 2 * len(pause)


def test_upload(http):
    payload = (
        '{"model": "step-audio-editx", "response_format": "wav", "input": "x", '
        '"step_audio": {"mode": "emotion", "edit_info": "happy", "audio_text": "就是说"}}'
    )
    files = {"input_audio_file": ("clip.wav", recording("story_teller"), "audio/wav")}
    heard(http.post(f"{SPEECH}/upload", data={"payload": payload}, files=files))


def test_headers_echo_metadata_and_model(http):
    answer = speak(http, input="hi", voice="happy_en", metadata={"trace_id": "demo", "who": "张三"})
    heard(answer)
    assert answer.headers["x-stepaudio-model"] == "step-audio-editx"
    assert answer.headers["x-metadata-trace_id"] == "demo"
    assert answer.headers["x-metadata-who"] == "%E5%BC%A0%E4%B8%89"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert int(answer.headers["openai-processing-ms"]) > 0


def test_variants_answer_or_are_refused(http):
    statuses = {
        variant: speak(http, {"model_variant": variant}, input="hi", voice="happy_en").status_code
        for variant in ("base", "bnb", "awq", "nosuch")
    }
    assert statuses["base"] == 200
    assert statuses["nosuch"] == 400
    assert {statuses["bnb"], statuses["awq"]} <= {200, 400}


@pytest.mark.parametrize(("intensity", "status"), [(0.1, 200), (3.0, 200), (0.09, 400), (3.1, 400)])
def test_intensity_bounds(http, intensity, status):
    block = {"mode": "clone", "prompt_text": "测试", "model_variant": "base", "intensity": intensity}
    assert speak(http, block, input="测试文本").status_code == status


def test_each_pass_works_on_the_one_before(http):
    clip, words = recording("whisper_cn"), "小声一点，孩子刚刚睡着。"
    once, twice = (edit(http, "style", clip, words, "whisper", n_edit_iter=passes) for passes in (1, 2))
    assert not np.array_equal(heard(once), heard(twice))
    assert edit(http, "style", clip, words, "whisper", n_edit_iter=5).status_code == 400


TYPES = {
    "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "opus": "audio/opus", "aac": "audio/aac",
    "pcm": "audio/pcm",
}  # fmt: skip


@pytest.mark.parametrize("file_format", TYPES)
def test_formats_streamed_and_whole_sound_alike(http, file_format):
    bodies = []
    for stream in (False, True):
        answer = speak(http, input="hello there", voice="happy_en", response_format=file_format, stream=stream)
        assert answer.headers["content-type"] == TYPES[file_format]
        bodies.append(heard(answer, file_format))
    assert len(bodies[0]) == pytest.approx(len(bodies[1]), abs=24_000 // 4)


def test_dialect_and_pinyin_are_taken(http):
    for text in ("[Cantonese]今晚食咩好呢？", "我也想guo4guo4guo1儿guo4guo4的生活"):
        heard(speak(http, input=text))


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (415, {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        (400, {"content": b"{bad", "headers": {"Content-Type": "application/json"}}),
        (400, {"json": {"input": "x", "voice": "nobody"}}),
        (400, {"json": {"input": "x", "step_audio": {"mode": "emotion", "edit_info": "happy"}}}),
    ],
)
def test_faults_have_the_envelope(http, status, request_):
    answer = http.post(SPEECH, **request_)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_unknown_paths_have_the_envelope(http):
    answer = http.get("/v1/nope")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_documents(http):
    assert http.get("/docs").status_code == http.get("/redoc").status_code == 200
    assert SPEECH in http.get("/openapi.json").json()["paths"]


def test_a_plain_requests_script(server):
    script = (
        "import requests\n"
        f"answer = requests.post('{server.url}{SPEECH}', headers={{'Authorization': 'Bearer demo'}},\n"
        "    json={'model': 'step-audio-editx', 'voice': 'whisper_cn', 'response_format': 'mp3', 'input': '欢迎使用',\n"
        "          'step_audio': {'mode': 'clone'}})\n"
        "answer.raise_for_status()\n"
        "print(answer.headers['content-type'], len(answer.content) > 2000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "audio/mpeg True\n", done.stderr


def test_an_edit_of_a_voice_without_a_recording(http):
    block = {"mode": "emotion", "edit_info": "fear", "model_variant": "base", "intensity": 2.0}
    heard(speak(http, block, voice="fear_female", input="我真的很害怕"))


def test_events(http):
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hello", "stream_format": "sse"}
    with http.stream("POST", SPEECH, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert "speech.audio.delta" in lines[0]
    assert "speech.audio.done" in lines[-1]


def test_the_built_in_voices_are_those_on_disk(http):
    for voice in http.get("/v1/voices").json()[:4]:
        assert http.get(voice["prompt_audio"]).content == (VOICES / f"{voice['id']}.wav").read_bytes()
