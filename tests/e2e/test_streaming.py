"""Streams of the running server as their users hear them: over HTTP, with the official SDK, with our client."""

import base64
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import openai
import pytest
import tritonclient.grpc as grpcclient

from client import SpeechJob, StepAudioClient
from client.speech import Clip, Sampling
from client.triton import STREAM
from gateway.encoding import CODECS
from tests.e2e.recordings import decoded
from tests.e2e.triton_inputs import CLIP_TEXT, clip, tensors
from tests.servers import ROOT

pytestmark = pytest.mark.server

SPEECH = "/v1/audio/speech"
TEXT = "Hello there, this is said while it is being made."
GROUP_SAMPLES = 2880
MOST_TOKENS = 2500  # the engine needs seconds for so many


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def triton(server):
    return server.triton()


def request(groups: int = 25, text: str = TEXT, **fields):
    options = {"max_tokens": 5 * groups, "seed": 3, **fields.pop("step_audio", {})}
    return {"input": text, "voice": "happy_en", "stream": True, "step_audio": options, **fields}


def engine(triton) -> dict[str, int]:
    answer = triton.infer("llm_base_unary", tensors(grpcclient, {"op": "stats"}))
    return json.loads(answer.as_numpy("stats")[0])


def seconds_until_idle(triton) -> float:
    """Return how long the engine still works on anything, from now."""
    started = time.monotonic()
    while engine(triton)["running"]:
        assert time.monotonic() - started < 5, "the slot was never freed"
    return time.monotonic() - started


@contextmanager
def spoken_to(http, **fields) -> Iterator[httpx.Response]:
    with http.stream("POST", SPEECH, json=request(**fields)) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer


@pytest.mark.parametrize("name", list(CODECS))
def test_the_sdk_hears_every_format_while_it_is_made(server, name):
    sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
    body = request(response_format=name)
    with sdk.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input=TEXT,
        response_format=name,
        extra_body={"stream": True, "step_audio": body["step_audio"]},
    ) as answer:
        chunks = list(answer.iter_bytes())
    assert len(chunks) > 1
    waveform, rate = decoded(b"".join(chunks), name)
    assert len(waveform) / rate == pytest.approx(25 * 0.12, abs=0.08)
    assert np.sqrt(np.mean(waveform**2)) > 0.01


def test_the_sdk_reads_events(server):
    sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
    body = request(stream_format="sse", response_format="pcm")
    with sdk.audio.speech.with_streaming_response.create(
        model="step-audio-editx",
        voice="happy_en",
        input=TEXT,
        response_format="pcm",
        stream_format="sse",
        extra_body={"step_audio": body["step_audio"]},
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert sum(len(base64.b64decode(event["audio"])) for event in deltas) == 2 * GROUP_SAMPLES * 25
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["output_tokens"] == 125
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + 125


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 6, 7, 13, 14, 40])
def test_streams_are_as_long_as_whole_answers(http, groups):
    body = request(groups, response_format="pcm")
    streamed = http.post(SPEECH, json=body)
    whole = http.post(SPEECH, json={**body, "stream": False})
    assert len(streamed.content) == len(whole.content) == 2 * GROUP_SAMPLES * groups
    if groups > 5:
        heard, meant = (np.frombuffer(answer.content, np.int16) / 32768 for answer in (streamed, whole))
        assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(meant**2)), rel=0.3)


def test_sound_comes_before_the_last_token(http, triton):
    before = engine(triton)["tokens"]
    with spoken_to(http, groups=MOST_TOKENS // 5, response_format="pcm") as answer:
        sound = answer.iter_raw()
        assert next(sound)
        state = engine(triton)
    assert state["running"] == 1
    assert state["tokens"] - before < MOST_TOKENS


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_listener_that_leaves_frees_the_slot_within_100_ms(http, triton, stream_format):
    choose = random.Random(4)
    freed = []
    for _ in range(5):
        with spoken_to(http, groups=MOST_TOKENS // 5, stream_format=stream_format) as answer:
            sound = answer.iter_raw()
            assert next(sound)
            time.sleep(choose.uniform(0, 0.3))
            assert engine(triton)["running"] == 1
        freed.append(seconds_until_idle(triton))
    print(f"{stream_format}: slot free after {[round(1000 * seconds) for seconds in freed]} ms")
    assert statistics.median(freed) < 0.1


def test_a_listener_that_leaves_before_the_first_sound_frees_the_slot(server, triton):
    with httpx.Client(base_url=server.url, timeout=0.15) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post(SPEECH, json=request(MOST_TOKENS // 5, step_audio={"mode": "emotion", "edit_info": "happy"}))
    assert seconds_until_idle(triton) < 2


def test_leaving_the_clients_iterator_frees_the_slot(server, triton):
    waveform, rate = clip()
    job = SpeechJob("clone", Clip(waveform, rate), CLIP_TEXT, TEXT, sampling=Sampling(max_tokens=MOST_TOKENS))
    freed = []
    with StepAudioClient(server.grpc_url) as client:
        for _ in range(5):
            for part in client.stream(job):
                assert part.clip.seconds > 0
                assert engine(triton)["running"] == 1
                break
            freed.append(seconds_until_idle(triton))
    print(f"slot free after {[round(1000 * seconds) for seconds in freed]} ms")
    assert statistics.median(freed) < 0.1


def test_the_command_line_streams_what_it_would_write(server, tmp_path):
    command = [
        sys.executable,
        "-m",
        "client",
        "speak",
        "Hi there.",
        "--seed",
        "5",
        "--url",
        server.grpc_url,
        "--raw",
        "-o",
    ]
    streamed = subprocess.run([*command, "-", "--stream"], cwd=ROOT, capture_output=True, check=True)
    assert b"first audio after 0." in streamed.stderr
    whole = tmp_path / "whole.pcm"
    subprocess.run([*command, whole], cwd=ROOT, check=True)
    assert len(streamed.stdout) == whole.stat().st_size > 0


@pytest.mark.parametrize("mode", ["emotion", "style", "speed", "paralinguistic", "denoise", "vad"])
def test_every_edit_mode_streams(http, mode):
    tags = {"emotion": "happy", "style": "whisper", "speed": "faster"}
    extension = {"mode": mode, "edit_info": tags.get(mode)}
    with spoken_to(http, groups=10, text="Well [Laughter] yes.", step_audio=extension, response_format="pcm") as answer:
        assert sum(map(len, answer.iter_raw())) == 2 * GROUP_SAMPLES * 10


def test_the_last_of_two_passes_streams(http):
    extension = {"mode": "style", "edit_info": "whisper", "n_edit_iter": 2}
    with spoken_to(http, groups=20, step_audio=extension, response_format="pcm") as answer:
        chunks = list(answer.iter_raw())
    assert sum(map(len, chunks)) == 2 * GROUP_SAMPLES * 20
    assert len(chunks) > 1


def test_a_long_text_streams_piece_by_piece(http):
    text = " ".join(f"This is sentence number {number}, and it takes a while to say." for number in range(12))
    with spoken_to(http, groups=7, text=text, response_format="pcm") as answer:
        samples = sum(map(len, answer.iter_raw())) // 2
    pause = round(0.3 * 24_000)
    pieces, rest = divmod(samples + pause, GROUP_SAMPLES * 7 + pause)
    assert (pieces > 2, rest) == (True, 0)


def test_tempo_applies_to_streams(http):
    with spoken_to(http, groups=20, speed=1.25, response_format="pcm") as answer:
        assert sum(map(len, answer.iter_raw())) == 2 * round(GROUP_SAMPLES * 20 / 1.25)


def test_refusals_before_the_first_sound_are_plain_errors(http):
    for body in (
        request(text="say <|EOT|> now"),
        request(voice="nobody"),
        request(step_audio={"model_variant": "awq"}),
    ):
        answer = http.post(SPEECH, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"]


def test_the_streaming_model_is_the_one_that_speaks(triton):
    counted = triton.get_inference_statistics(STREAM).model_stats[0].inference_count
    assert counted > 0
