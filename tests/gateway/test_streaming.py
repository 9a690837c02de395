import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest

from client.errors import ModelFailed
from client.speech import SpeechJob, SpeechResult
from gateway.settings import Settings
from gateway.streaming import ByteStream
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, edit

TEXT = "First one. Second costs 3.50 dollars, truly! Is this the third?"
PIECES = 3
WHOLE = PIECES * SECONDS + 2 * 0.3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"piece_seconds": 2.5, "pieces_at_once": 1})


def decoded_seconds(body: bytes, name: str) -> float:
    if name == "pcm":
        return len(body) / 48_000
    with av.open(io.BytesIO(body)) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
        assert np.abs(np.concatenate([frame.reshape(-1) for frame in frames])).max() > 0
        return sum(frame.shape[-1] for frame in frames) / file.streams.audio[0].rate


def events(text: str) -> Iterator[dict[str, Any]]:
    for frame in text.split("\n\n"):
        if frame:
            yield json.loads(frame.removeprefix("data: "))


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["wav", "mp3", "flac", "opus", "aac", "pcm"])
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_every_format_streams(http: httpx.AsyncClient, name: str, stream_format: str) -> None:
    body = {"input": TEXT, "stream": True, "stream_format": stream_format, "response_format": name}
    answer = await http.post(SPEECH, json=body)
    assert answer.status_code == 200
    assert "content-length" not in answer.headers
    assert answer.headers["x-stepaudio-variant"] == "base"
    content = answer.content
    if stream_format == "sse":
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, done = events(answer.text)
        assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
        content = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
        usage = {"input_tokens": 11 * PIECES, "output_tokens": 22 * PIECES, "total_tokens": 33 * PIECES}
        assert done == {"type": "speech.audio.done", "usage": usage}
    assert decoded_seconds(content, name) == pytest.approx(WHOLE, abs=0.15 if name in ("mp3", "aac") else 0.01)


@pytest.mark.anyio
async def test_edits_and_tempo_stream_too(http: httpx.AsyncClient) -> None:
    answer = await http.post(SPEECH, json={"stream": True, "response_format": "pcm", **edit("denoise")})
    assert len(answer.content) == SECONDS * 48_000
    answer = await http.post(SPEECH, json={"input": "hi", "speed": 0.5, "stream": True, "response_format": "pcm"})
    assert len(answer.content) == 2 * SECONDS * 48_000


def test_audio_arrives_while_later_pieces_are_made(live: str, backend: FakeBackend) -> None:
    backend.delay = 0.5
    started = time.monotonic()
    sdk = openai.OpenAI(base_url=f"{live}/v1", api_key="x", max_retries=0)
    with sdk.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=TEXT, response_format="pcm", extra_body={"stream": True}
    ) as answer:
        arrivals = [(time.monotonic() - started, len(chunk)) for chunk in answer.iter_bytes()]
    assert arrivals[0][0] < 1.0
    assert arrivals[-1][0] > 1.4
    assert sum(size for _, size in arrivals) == WHOLE * 48_000


def test_work_stops_when_the_listener_leaves(live: str, backend: FakeBackend) -> None:
    backend.delay = 0.3
    body = {"input": TEXT, "stream": True, "response_format": "pcm"}
    with httpx.stream("POST", f"{live}{SPEECH}", json=body) as answer:
        next(answer.iter_bytes())
    deadline = time.monotonic() + 5
    while not backend.cancelled:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    metrics = httpx.get(f"{live}/metrics").text
    assert "gateway_active_requests 0.0" in metrics


class FailsLate(FakeBackend):
    async def synthesize(self, job: SpeechJob) -> SpeechResult:
        if "third" in job.text:
            raise ModelFailed("broke")
        return await super().synthesize(job)


class TestLateFailure:
    @pytest.fixture
    def backend(self) -> FakeBackend:
        return FailsLate()

    @pytest.mark.anyio
    async def test_is_an_event_of_the_stream(self, http: httpx.AsyncClient) -> None:
        answer = await http.post(SPEECH, json={"input": TEXT, "stream_format": "sse"})
        *deltas, last = events(answer.text)
        assert deltas
        assert "broke" in last["error"]["message"]

    def test_breaks_off_plain_audio(self, live: str) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{live}{SPEECH}", json={"input": TEXT, "stream": True})


@pytest.mark.anyio
async def test_failures_before_any_audio_are_plain_errors(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    assert_error(
        await http.post(SPEECH, json={"input": "x", "stream": True, "voice": "no"}), 400, "invalid_voice", "voice"
    )
    backend.failure = ModelFailed("broke")
    for how in ({"stream": True}, {"stream_format": "sse"}):
        assert_error(await http.post(SPEECH, json={"input": TEXT, **how}), 500, None)


@pytest.mark.anyio
async def test_a_stream_that_is_left_ends_its_maker() -> None:
    ended = asyncio.Event()
    stream = ByteStream()

    async def make() -> None:
        try:
            stream.put(b"a")
            await asyncio.sleep(60)
        finally:
            ended.set()

    await stream.start(make())
    chunks = aiter(stream)
    assert await anext(chunks) == b"a"
    await chunks.aclose()
    assert ended.is_set()
