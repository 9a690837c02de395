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
from starlette.types import Message

from client.errors import ModelFailed
from client.speech import SpeechJob, SpeechResult, derived_seed
from gateway.settings import Settings
from gateway.streaming import ByteStream, LiveResponse
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, base64_wav, edit

TEXT = "First one. Second costs 3.50 dollars, truly! Is this the third?"
PIECES = 3
WHOLE = PIECES * SECONDS + 2 * 0.3
LONG = 20.0  # seconds that no test waits for, however busy the machine


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


def first_chunk(live: str, **body: Any) -> tuple[float, bytes]:
    """Return when the first bytes of a streamed answer came, and those."""
    started = time.monotonic()
    with httpx.stream("POST", f"{live}{SPEECH}", json={"input": "hi", "stream": True, **body}) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        chunk = next(answer.iter_raw())
        return time.monotonic() - started, chunk


@pytest.mark.parametrize("name", ["wav", "mp3", "flac", "opus", "aac", "pcm"])
def test_the_first_part_leaves_at_once_in_every_format(live: str, backend: FakeBackend, name: str) -> None:
    backend.parts, backend.part_delay = 2, LONG
    seconds, chunk = first_chunk(live, response_format=name)
    assert seconds < LONG / 2
    # What is missing of the first part's 0.25 s is what the codec keeps back.
    assert SECONDS / 2 - decoded_seconds(chunk, name) < 0.11


def test_events_leave_at_once_too(live: str, backend: FakeBackend) -> None:
    backend.parts, backend.part_delay = 2, LONG
    seconds, chunk = first_chunk(live, response_format="pcm", stream_format="sse")
    assert seconds < LONG / 2
    (event,) = events(chunk.decode())
    assert len(base64.b64decode(event["audio"])) == SECONDS / 2 * 48_000


@pytest.mark.parametrize("rate", ["0.3x", "0.8x", "1.7x"])
def test_a_numeric_speed_streams(live: str, backend: FakeBackend, rate: str) -> None:
    options = {"mode": "speed", "edit_info": rate, "input_audio_base64": base64_wav(seconds=5.0, rate=44_100)}
    body = {"stream": True, "response_format": "pcm", "step_audio": options}
    answer = httpx.post(f"{live}{SPEECH}", json=body)
    assert len(answer.content) == 2 * round(5.0 * 24_000 / float(rate[:-1]))
    assert not backend.jobs


@pytest.mark.anyio
async def test_the_last_of_several_passes_streams(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    options = {"edit_info": "happy", "audio_text": "words", "n_edit_iter": 3, "seed": 7}
    body = {"stream": True, "stream_format": "sse", "response_format": "pcm", **edit("emotion", **options)}
    answer = await http.post(SPEECH, json=body)
    *deltas, done = events(answer.text)
    assert len(deltas) == backend.parts
    assert [job.sampling.seed for job in backend.jobs] == [7, derived_seed(7, 1), derived_seed(7, 2)]
    assert done["usage"]["output_tokens"] == 3 * 22


@pytest.mark.anyio
async def test_the_edit_that_follows_a_clone_streams(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    body = {"input": "hi", "instructions": "sound happy", "stream": True, "response_format": "pcm"}
    answer = await http.post(SPEECH, json=body)
    assert len(answer.content) == SECONDS * 48_000
    assert [job.mode for job in backend.jobs] == ["clone", "emotion"]


def test_the_next_piece_is_made_while_one_is_heard(live: str, backend: FakeBackend, settings: Settings) -> None:
    settings.pieces_at_once = 4
    backend.parts, backend.part_delay = 2, LONG
    with httpx.stream("POST", f"{live}{SPEECH}", json={"input": TEXT, "stream": True}) as answer:
        sound = answer.iter_raw()
        assert next(sound)
        deadline = time.monotonic() + LONG / 2
        while len(backend.jobs) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(backend.jobs) == 2, "and the one after that has to wait"


@pytest.mark.anyio
async def test_pieces_are_heard_in_order(http: httpx.AsyncClient, settings: Settings) -> None:
    settings.pieces_at_once = 4
    answer = await http.post(SPEECH, json={"input": TEXT, "stream": True, "response_format": "pcm"})
    pitches = [abs(np.fft.rfft(sound)).argmax() * 2 for sound in sounds(answer.content)]
    assert pitches == [300, 600, 900]


def sounds(body: bytes) -> Iterator[Any]:
    """Give the pieces of `TEXT`, without the pauses between them."""
    samples, length, pause = np.frombuffer(body, np.int16), round(SECONDS * 24_000), round(0.3 * 24_000)
    for number in range(PIECES):
        start = number * (length + pause)
        yield samples[start : start + length]


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
    assert arrivals[-1][0] - arrivals[0][0] > 0.8
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


def test_a_stream_that_breaks_is_not_ended_properly(live: str, backend: FakeBackend) -> None:
    backend.late_failure = ModelFailed("broke")
    body = {"input": "hi", "response_format": "pcm"}
    received: list[bytes] = []
    stream = httpx.stream("POST", f"{live}{SPEECH}", json={**body, "stream": True})
    with stream as answer, pytest.raises(httpx.RemoteProtocolError):
        received.extend(answer.iter_raw())
    assert sum(map(len, received)) == SECONDS * 48_000
    *deltas, last = events(httpx.post(f"{live}{SPEECH}", json={**body, "stream_format": "sse"}).text)
    assert len(deltas) == backend.parts
    assert last["error"]["message"].endswith("broke")


def test_a_listener_that_leaves_between_parts_stops_the_model(live: str, backend: FakeBackend) -> None:
    backend.parts, backend.part_delay = 2, LONG
    with httpx.stream("POST", f"{live}{SPEECH}", json={"input": "hi", "stream": True}) as answer:
        next(answer.iter_raw())
        left = time.monotonic()
    while not backend.cancelled:
        assert time.monotonic() - left < LONG / 2
        time.sleep(0.002)


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
    assert await anext(aiter(stream)) == b"a"
    await stream.close()
    assert ended.is_set()


@pytest.mark.anyio
async def test_a_caller_who_is_gone_before_the_first_byte_ends_the_maker() -> None:
    ended = asyncio.Event()
    stream = ByteStream()

    async def make() -> None:
        try:
            stream.put(b"a")
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    await stream.start(make())
    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    await LiveResponse(stream, aiter(stream), "audio/pcm", {})(scope, receive, send)
    assert ended.is_set()
