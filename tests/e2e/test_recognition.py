"""Recognition on the running server. The demo's weights are random: speech gives text, but not its words."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
import soundfile
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from python_backend.voice.resample import resample
from tests.e2e.recordings import recording
from tests.e2e.test_openai_sdk import LAST_OF_1
from tests.e2e.triton_inputs import clip, tensors
from tests.servers import ROOT
from tests.tokenizer_golden import session

pytestmark = pytest.mark.server

RATE = 16_000
MODEL = "speech_recognizer"


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def triton(server):
    with server.triton() as client:
        yield client


def speech(seconds):
    audio = resample(*clip(), RATE)
    return np.tile(audio, -(-int(seconds * RATE) // len(audio)))[: int(seconds * RATE)]


def wav(audio, form="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, RATE, format=form)
    return buffer.getvalue()


def ask(triton, outputs=("text", "language", "segments"), **fields):
    wanted = [grpcclient.InferRequestedOutput(name) for name in outputs]
    answer = triton.infer(MODEL, tensors(grpcclient, fields), outputs=wanted)
    return [answer.as_numpy(name) for name in outputs]


def test_the_network_gives_in_triton_what_it_gives_here(server):
    graph = session(ROOT / "model_repository" / "sense_voice" / "1" / "model.onnx")
    audio = speech(7.3)
    answers = {}

    def run(samples):
        padded = np.zeros((1, -(-samples // RATE) * RATE), np.float32)
        padded[0, :samples] = audio[:samples]
        inputs = {
            "audio": padded,
            "audio_length": np.array([[samples]], np.int32),
            "language": np.array([[4]], np.int32),
            "text_norm": np.array([[14]], np.int32),
            "dither": np.ones((1, 1), np.float32),
        }
        with server.triton() as client:
            answers[samples] = inputs, client.infer("sense_voice", tensors(grpcclient, inputs))

    threads = [threading.Thread(target=run, args=(samples,)) for samples in range(96_100, 112_000, 2_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    for inputs, answer in answers.values():
        tokens, log_probs, length = graph.run(["tokens", "log_probs", "tokens_length"], inputs)
        count = length.item()
        assert answer.as_numpy("tokens_length").item() == count
        np.testing.assert_array_equal(answer.as_numpy("tokens")[0, :count], tokens[0, :count])
        np.testing.assert_allclose(answer.as_numpy("log_probs")[0, :count], log_probs[0, :count], atol=1e-3)


def test_speech_gives_text_segments_and_words(triton):
    audio, rate = clip()
    text, language, segments = ask(triton, audio=audio, sample_rate=rate, language="en", use_itn=True)
    found = json.loads(segments[0])
    assert text[0].decode() == "".join(part["text"] for part in found).strip()
    assert text[0]
    assert language[0].decode() == found[0]["language"]
    assert 0 <= found[0]["start"] < found[-1]["end"] <= len(audio) / rate
    assert all(part["words"] and part["tokens"] for part in found)


def test_silence_gives_nothing(triton):
    text, language, segments = ask(triton, audio=np.zeros(2 * RATE, np.float32), sample_rate=RATE)
    assert (text[0], language[0], segments[0]) == (b"", b"", b"[]")


def test_long_audio_is_cut_where_the_model_says(triton):
    audio = speech(100)
    (places,) = ask(triton, ("cuts",), audio=audio, sample_rate=RATE, op="cuts")
    assert np.diff([0, *places, len(audio)]).max() <= 30 * RATE
    (segments,) = ask(triton, ("segments",), audio=audio, sample_rate=RATE)
    found = json.loads(segments[0])
    assert found[-1]["end"] > 90
    for place in places / RATE:
        assert not any(part["start"] < place - 0.5 and part["end"] > place + 0.5 for part in found)
    (none,) = ask(triton, ("cuts",), audio=audio[: 30 * RATE], sample_rate=RATE, op="cuts")
    assert none.size == 0


def test_the_model_says_what_it_is(triton):
    (description,) = ask(triton, ("description",), op="describe")
    assert json.loads(description[0])["model"] == "SenseVoiceSmall"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("audio", {"sample_rate": RATE}),
        ("sample_rate", {"audio": np.zeros(RATE, np.float32)}),
        ("audio", {"audio": np.zeros(100, np.float32), "sample_rate": RATE}),
        ("audio", {"audio": np.full(RATE, np.nan, np.float32), "sample_rate": RATE}),
        ("sample_rate", {"audio": np.zeros(RATE, np.float32), "sample_rate": 100}),
        ("language", {"audio": np.zeros(RATE, np.float32), "sample_rate": RATE, "language": "klingon"}),
        ("dither", {"audio": np.zeros(RATE, np.float32), "sample_rate": RATE, "dither": 3.0}),
        ("op", {"audio": np.zeros(RATE, np.float32), "sample_rate": RATE, "op": "sing"}),
    ],
)
def test_bad_inputs_are_named(triton, field, fields):
    with pytest.raises(InferenceServerException) as failure:
        ask(triton, **fields)
    assert failure.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert failure.value.message().startswith(f"{field}: ")


def test_asr_and_its_stream_say_the_same(http):
    whole = http.post("/asr", files={"file": recording("happy_en")}).json()["text"]
    assert whole.strip()
    answer = http.post("/asr/stream", files={"file": recording("happy_en")})
    parts = [json.loads(line)["partial_text"] for line in answer.text.splitlines()]
    assert "".join(parts) == whole


def test_a_long_recording_streams_piece_by_piece(http):
    began = time.perf_counter()
    arrivals, parts = [], []
    with http.stream("POST", "/asr/stream", files={"file": wav(speech(120), "FLAC")}) as answer:
        for line in answer.iter_lines():
            arrivals.append(time.perf_counter() - began)
            parts.append(json.loads(line)["partial_text"])
    assert len(parts) >= 5
    assert arrivals[0] < arrivals[-1]
    assert "".join(parts).strip() == http.post("/asr", files={"file": wav(speech(120), "FLAC")}).json()["text"]


@pytest.mark.parametrize("form", ["MP3", "OGG", "FLAC"])
def test_other_formats_are_read(http, form):
    answer = http.post("/v1/audio/transcriptions", files={"file": wav(speech(3), form)}, data={"model": "whisper-1"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"]
    assert answer.json()["usage"]["seconds"] in (3, 4)


SCRIPT = """
import sys
import openai

url, path, release = sys.argv[1:]
assert openai.__version__.startswith(release), openai.__version__
create = openai.OpenAI(base_url=url, api_key="x", max_retries=0).audio.transcriptions.create
told = lambda **more: create(model="whisper-1", file=open(path, "rb"), **more)
text = told(response_format="json").text
assert text
assert told().text == text
assert told(response_format="text") == text + "\\n"
assert told(response_format="srt").startswith("1\\n00:00:0")
assert told(response_format="vtt").startswith("WEBVTT\\n\\n00:00:0")
verbose = told(response_format="verbose_json", timestamp_granularities=["word", "segment"])
assert verbose.text == text
assert 0 <= verbose.words[0].start < verbose.words[-1].end <= verbose.duration
assert "".join(part.text for part in verbose.segments).strip() == text
events = list(told(stream=True))
assert [event.type for event in events][-1] == "transcript.text.done"
assert "".join(event.delta for event in events[:-1]) == events[-1].text == text
try:
    told(language="tlh")
except openai.BadRequestError as error:
    assert (error.param, error.code) == ("language", "invalid_value")
else:
    raise AssertionError("no error")
print("done")
"""


@pytest.mark.parametrize("release", ["newest", "1.109.1"])
def test_the_official_sdk_transcribes(server, tmp_path, release):
    path = {} if release == "newest" else {"PYTHONPATH": str(LAST_OF_1)}
    (tmp_path / "clip.wav").write_bytes(recording("happy_en"))
    wanted = "" if release == "newest" else release
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"{server.url}/v1", tmp_path / "clip.wav", wanted],
        env=os.environ | path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    ("side", "options"),
    [("prompt_audio_base64", {"mode": "clone"}), ("input_audio_base64", {"mode": "emotion", "edit_info": "happy"})],
)
def test_a_clip_without_words_is_transcribed_first(http, side, options):
    def speak(content):
        encoded = {side: base64.b64encode(content).decode(), "max_tokens": 30}
        return http.post("/v1/audio/speech", json={"input": "Good day.", "step_audio": options | encoded})

    answer = speak(recording("happy_en"))
    assert answer.status_code == 200, answer.text
    assert "recognised" in answer.headers["x-stepaudio-warning"]
    answer = speak(wav(np.zeros(2 * RATE, np.float32)))
    assert answer.status_code == 400, answer.headers
    assert answer.json()["error"]["code"] == "audio_transcription_failed"


def test_what_is_spoken_can_be_transcribed(http):
    spoken = http.post("/v1/audio/speech", json={"input": "[Cantonese]今晚食咩好呢？", "voice": "story_teller"})
    answer = http.post("/asr", files={"file": spoken.content})
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"text"}


@pytest.mark.parametrize("content", [b"", b"not audio at all"])
def test_what_cannot_be_used_is_refused_in_each_familys_words(http, content):
    answer = http.post("/v1/audio/transcriptions", files={"file": content}, data={"model": "whisper-1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_audio")
    answer = http.post("/asr", files={"file": content})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert http.post("/asr", files={"other": b"1"}).json() == {"error": "No file uploaded"}


def test_models_say_what_the_recogniser_is(http):
    listed = {model["id"]: model for model in http.get("/v1/models").json()["data"]}
    assert {"SenseVoiceSmall", "whisper-1", "gpt-4o-transcribe"} <= set(listed)
    note = json.loads((ROOT / "model_repository" / MODEL / "1" / "description.json").read_text())["note"]
    assert listed["SenseVoiceSmall"].get("description", "") == note


def test_an_unloaded_recogniser_is_named_and_speech_goes_on(http, triton):
    triton.unload_model(MODEL)
    try:
        answer = http.post("/v1/audio/transcriptions", files={"file": wav(speech(1))}, data={"model": "whisper-1"})
        assert answer.status_code == 503, answer.text
        assert MODEL in answer.json()["error"]["message"]
        assert http.post("/asr", files={"file": wav(speech(1))}).status_code == 503
        spoken = http.post("/v1/audio/speech", json={"input": "Hello.", "voice": "happy_en"})
        assert spoken.status_code == 200
    finally:
        triton.load_model(MODEL)
    deadline = time.monotonic() + 30
    while (answer := http.post("/asr", files={"file": recording("happy_en")})).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
    assert answer.json()["text"]
