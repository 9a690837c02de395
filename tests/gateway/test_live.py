"""What needs a real socket: the official SDK, and callers who hang up."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
import soundfile

from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, wav_seconds


@pytest.fixture
def sdk(live: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live}/v1", api_key="anything", max_retries=0)


def test_the_sdk_speaks_with_openais_own_words(sdk: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "speech.mp3"
    sdk.audio.speech.create(model="tts-1", voice="alloy", input="hello").write_to_file(path)
    assert soundfile.info(path).format == "MP3"
    assert soundfile.info(path).duration == pytest.approx(SECONDS, abs=0.1)


def test_the_sdk_reads_progressively(sdk: openai.OpenAI) -> None:
    with sdk.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="nova", input="hello", response_format="wav"
    ) as answer:
        assert wav_seconds(b"".join(answer.iter_bytes())) == SECONDS


def test_the_sdk_carries_the_extension_block(sdk: openai.OpenAI, backend: FakeBackend) -> None:
    extra = {"step_audio": {"mode": "clone", "seed": 4}, "metadata": {"trace_id": "demo"}}
    answer = sdk.audio.speech.with_raw_response.create(
        model="step-audio-editx", voice="happy_en", input="hi", response_format="wav", extra_body=extra
    )
    assert answer.headers["x-stepaudio-model"] == "step-audio-editx"
    assert answer.headers["x-metadata-trace_id"] == "demo"
    assert backend.jobs[0].sampling.seed == 4


def test_the_sdk_lists_models(sdk: openai.OpenAI) -> None:
    listed = [model.id for model in sdk.models.list()]
    assert listed[0] == "step-audio-editx"
    assert sdk.models.retrieve("tts-1").created > 0
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("gpt-9")


def test_the_sdk_understands_our_errors(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.audio.speech.create(model="step-audio-editx", voice="nobody", input="x")
    assert (raised.value.param, raised.value.code) == ("voice", "invalid_voice")
    assert raised.value.type == "invalid_request_error"
    assert str(raised.value.request_id).startswith("req_")


def test_work_stops_when_the_caller_hangs_up(live: str, backend: FakeBackend) -> None:
    backend.delay = 30.0
    body = json.dumps({"input": "hello"}).encode()
    head = f"POST {SPEECH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(live).port)) as caller:
        caller.sendall(head.encode() + body)
        _wait_for(lambda: len(backend.jobs) == 1)
    _wait_for(lambda: backend.cancelled == 1)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
