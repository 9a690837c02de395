import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from client.errors import InvalidInput, ModelFailed, QueueFull, ServerUnavailable
from gateway.app import create_app
from gateway.chat_upstream import MAX_LINE_BYTES, UpstreamChat
from gateway.neighbours import Neighbours
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend, serve
from tests.gateway.helpers import assert_error
from tests.gateway.neighbours import FakeEmbedder, FakeTritonChat, fakes

pytestmark = pytest.mark.anyio
HI = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def chat() -> FakeTritonChat:
    return FakeTritonChat()


@pytest.fixture
async def http(backend: FakeBackend, settings: Settings, chat: FakeTritonChat) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, backend, neighbours=fakes(chat, FakeEmbedder()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


def events(text: str) -> list[str]:
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]


async def test_short_form(http: httpx.AsyncClient, chat: FakeTritonChat) -> None:
    body = (await http.post("/api/chat", json={**HI, "model": "Qwen/Any", "temperature": 0.5, "max_tokens": 9})).json()
    assert set(body) == {"content", "model", "raw"}
    assert (body["content"], body["model"], body["raw"]["model"]) == ("Hello, you", "Qwen/Any", "fake/chat")
    raw = body["raw"]
    assert {"id", "created", "object", "usage", "service_tier", "system_fingerprint", "choices", "model"} == set(raw)
    (choice,) = raw["choices"]
    assert {"finish_reason", "index", "logprobs", "message", "delta"} == set(choice)
    assert {"annotations", "audio", "content", "function_call", "function_calls", "reasoning_content"} < set(
        choice["message"]
    )
    assert raw["usage"]["total_tokens"] == 10
    assert (chat.jobs[0].temperature, chat.jobs[0].max_tokens) == (0.5, 9)
    assert (await http.post("/api/chat", content=json.dumps(HI))).json()["model"] == "fake/chat"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain; charset=utf-8"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream; charset=utf-8"),
    ],
)
async def test_short_stream(http: httpx.AsyncClient, accept: str, kind: str) -> None:
    answer = await http.post("/api/chat/stream", json=HI, headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    lines = events(answer.text) if "event-stream" in kind else answer.text.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"delta": "Hello"},
        {"delta": ", "},
        {"delta": "you"},
        {"event": "done"},
    ]


async def test_openai_form(http: httpx.AsyncClient, chat: FakeTritonChat) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None},
    ]
    asked = {"model": "gpt-5", "messages": messages, "n": 2, "stop": ["x"], "max_completion_tokens": 5, "seed": 3}
    answer = await http.post("/v1/chat/completions", json=asked)
    body = answer.json()
    assert (body["object"], body["model"], len(body["choices"])) == ("chat.completion", "fake/chat", 2)
    assert body["choices"][1]["message"] == {"role": "assistant", "content": "Hello, you", "refusal": None}
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}
    assert "seed" in answer.headers["x-stepaudio-warning"]
    assert answer.headers["x-stepaudio-served-by"] == "fake/chat"
    assert chat.jobs[0].messages == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": ""},
    ]
    assert (chat.jobs[0].stop, chat.jobs[0].max_tokens) == (["x"], 5)


@pytest.mark.parametrize("counted", [False, True])
async def test_openai_stream(http: httpx.AsyncClient, counted: bool) -> None:
    asked = {**HI, "stream": True, "stream_options": {"include_usage": counted}}
    answer = await http.post("/v1/chat/completions", json=asked)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    chunks = [json.loads(chunk) for chunk in chunks]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta["content"] for delta in deltas[1:-1]] == ["Hello", ", ", "you"]
    assert deltas[-1] == {}
    assert chunks[len(deltas) - 1]["choices"][0]["finish_reason"] == "stop"
    if counted:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] == 10
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
    else:
        assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"logprobs": True}, "logprobs"),
    ],
)
async def test_bad_requests(http: httpx.AsyncClient, change: dict[str, object], param: str) -> None:
    content = json.dumps({**HI, **change})
    headers = {"content-type": "application/json"}
    assert_error(await http.post("/v1/chat/completions", content=content, headers=headers), 400, "invalid_value", param)
    path = "/api/chat/stream" if "stream" in change else "/api/chat"
    short = await http.post(path, content=content)
    assert (short.status_code, list(short.json())) == (400, ["error"])


async def test_missing_and_no_json(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/chat", json={})).json() == {"error": "messages: is required"}
    assert (await http.post("/api/chat", content=b"[[")).status_code == 400
    assert_error(
        await http.post("/v1/chat/completions", json={"model": "x"}), 400, "missing_required_parameter", "messages"
    )


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (ServerUnavailable("gone"), 503, "service_unavailable"),
        (QueueFull("queue full: 72"), 429, "rate_limit_exceeded"),
        (ModelFailed("broken"), 500, None),
        (InvalidInput("messages", "have 9000 tokens"), 400, "invalid_value"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_before_the_answer_have_their_status(
    http: httpx.AsyncClient, chat: FakeTritonChat, failure: Exception, status: int, code: str | None, stream: bool
) -> None:
    chat.failure = failure
    answer = await http.post("/v1/chat/completions", json={**HI, "stream": stream})
    message = assert_error(answer, status, code, "messages" if status == 400 else None)
    assert status != 503 or "chat" in message
    short = await http.post("/api/chat/stream" if stream else "/api/chat", json=HI)
    assert (short.status_code, list(short.json())) == (status, ["error"])


async def test_a_failure_inside_a_stream_ends_it(http: httpx.AsyncClient, chat: FakeTritonChat) -> None:
    chat.late_failure = ModelFailed("broken")
    *_, last = events((await http.post("/v1/chat/completions", json={**HI, "stream": True})).text)
    assert "broken" in json.loads(last)["error"]["message"]
    lines = (await http.post("/api/chat/stream", json=HI)).text.splitlines()
    assert "broken" in json.loads(lines[-1])["error"]


async def test_a_model_that_is_not_loaded(http: httpx.AsyncClient, chat: FakeTritonChat) -> None:
    chat.loaded = False
    assert_error(await http.post("/v1/chat/completions", json=HI), 503, "service_unavailable")
    assert (await http.get("/health")).json()["model"] is None
    assert "fake/chat" not in (await http.get("/v1/models")).text


async def test_a_caller_who_hangs_up_frees_the_model(live_chat: str, chat: FakeTritonChat, anyio_backend: str) -> None:
    chat.delay = 0.5
    for path, stream in (("/v1/chat/completions", True), ("/v1/chat/completions", False), ("/api/chat/stream", False)):
        chat.cancelled = 0
        async with httpx.AsyncClient(base_url=live_chat) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(path, json={**HI, "stream": stream}, timeout=0.2)
        await asyncio.sleep(0.3)
        assert chat.cancelled == 1, path


@pytest.fixture
def live_chat(backend: FakeBackend, settings: Settings, chat: FakeTritonChat):
    with serve(create_app(settings, backend, neighbours=fakes(chat, FakeEmbedder()))) as url:
        yield url


class Upstream:
    """What an OpenAI-compatible service would answer."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer = httpx.Response(200, json={"model": "big", "choices": [{"message": {"content": "yes"}}]})
        self.error: Exception | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.error:
            raise self.error
        return self.answer


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def through(backend: FakeBackend, settings: Settings, upstream: Upstream) -> AsyncIterator[httpx.AsyncClient]:
    chat = UpstreamChat("http://up.example/v1", "secret", "big", 5.0, httpx.MockTransport(upstream))
    app = create_app(settings, backend, neighbours=Neighbours(chat))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


async def test_an_upstream_gets_the_request_as_it_is(through: httpx.AsyncClient, upstream: Upstream) -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]
    asked = {"model": "any", "messages": messages, "tools": [{"type": "function"}], "top_logprobs": 2, "seed": 1}
    answer = await through.post("/v1/chat/completions", json=asked, headers={"authorization": "Bearer caller"})
    assert answer.status_code == 200, answer.text
    (request,) = upstream.requests
    assert str(request.url) == "http://up.example/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer secret"
    assert json.loads(request.content) == {**asked, "model": "big", "stream": False}
    short = (await through.post("/api/chat", json={"messages": messages, "model": "any"})).json()
    assert (short["content"], short["model"], short["raw"]["model"]) == ("yes", "any", "big")
    assert short["raw"]["choices"][0]["delta"] is None
    assert (await through.get("/health")).json()["model"] == "big"


async def test_a_stream_passes_through(through: httpx.AsyncClient, upstream: Upstream) -> None:
    chunk = {"choices": [{"delta": {"content": "yes"}}], "extra": 1}
    text = f": keep-alive\r\n\r\ndata: {json.dumps(chunk)}\r\n\r\ndata: [DONE]\r\n\r\n"
    upstream.answer = httpx.Response(200, text=text)
    answer = await through.post("/v1/chat/completions", json={**HI, "stream": True})
    assert [json.loads(event) for event in events(answer.text)[:-1]] == [chunk]
    assert json.loads(upstream.requests[0].content)["stream"] is True
    short = await through.post("/api/chat/stream", json=HI)
    assert short.text.splitlines() == ['{"delta": "yes"}', '{"event": "done"}']
    upstream.answer = httpx.Response(200, text='data: {"error": {"message": "overloaded"}}\n\n')
    assert "overloaded" in (await through.post("/api/chat/stream", json=HI)).json()["error"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(400, json={"error": {"message": "no such tool"}}), 400),
        (httpx.Response(401, text="key secret is wrong"), 500),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), 500),
        (httpx.Response(429, headers={"retry-after": "7"}), 429),
        (httpx.Response(500, text="secret trace"), 500),
        (httpx.Response(503), 503),
        (httpx.Response(200, text="<html>"), 500),
        (httpx.Response(200, json={"choices": []}), 500),
        (httpx.Response(200, json=[1]), 500),
        (httpx.Response(200, content=b"x" * (17 * 1024 * 1024)), 500),
        (httpx.ConnectError("refused"), 503),
        (httpx.ReadTimeout("slow"), 504),
    ],
)
async def test_upstream_failures(
    through: httpx.AsyncClient, upstream: Upstream, answer: httpx.Response | Exception, status: int
) -> None:
    if isinstance(answer, Exception):
        upstream.error = answer
    else:
        upstream.answer = answer
    found = await through.post("/v1/chat/completions", json=HI)
    assert found.status_code == status, found.text
    assert "secret" not in found.text
    if status == 429:
        assert found.headers["retry-after"] == "7"
    if status == 400:
        assert "no such tool" in found.json()["error"]["message"]


async def test_an_endless_event_is_refused(through: httpx.AsyncClient, upstream: Upstream) -> None:
    upstream.answer = httpx.Response(200, content=b"data: " + b"x" * (MAX_LINE_BYTES + 1))
    assert_error(await through.post("/v1/chat/completions", json={**HI, "stream": True}), 500, None)
