"""Chat and embeddings on the running server: plain HTTP, the official SDK, Triton's own clients."""

import asyncio
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import httpx
import numpy as np
import openai
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from client.chat import ChatJob, TritonChat
from client.embedding import EmbeddingOptions, TritonEmbedder

pytestmark = pytest.mark.server

CHAT, EMBEDDER = "step-audio-triton/tiny-chat", "sentence-transformers/all-MiniLM-L6-v2"
QWEN = "/Qwen3-Embedding-4B"
RELATED = [
    ("python programming", "learn python"),
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ("How do I cook rice?", "a recipe for steamed rice"),
    ("The stock market fell today.", "Shares dropped this afternoon."),
]


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def sdk(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="anything", max_retries=0)


def said(http, question, **more):
    body = {"messages": [{"role": "user", "content": question}], **more}
    answer = http.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_examples_of_the_interface_are_answered(http):
    system = {"role": "system", "content": "你是一个精简的助手"}
    body = {"messages": [system, {"role": "user", "content": "请用一句话总结人工智能"}]}
    answer = http.post("/api/chat", json=body).json()
    assert "机器" in answer["content"]
    assert answer["content"] == answer["raw"]["choices"][0]["message"]["content"]
    named = said(http, "hi", model="Qwen/Qwen3-Coder-480B-A35B-Instruct")
    assert (named["model"], named["raw"]["model"]) == ("Qwen/Qwen3-Coder-480B-A35B-Instruct", CHAT)
    assert named["content"].startswith("Hello")
    assert "quantum states" in said(http, "Explain quantum computing in one sentence.")["content"]
    assert "do not know" in said(http, "Who won the world cup in 1998?")["content"]
    assert http.get("/health").json()["model"] == CHAT


def test_a_short_stream(http):
    body = {"messages": [{"role": "user", "content": "请用一句话总结量子计算"}]}
    lines = [json.loads(line) for line in http.post("/api/chat/stream", json=body).text.splitlines()]
    assert lines[-1] == {"event": "done"}
    assert len(lines) > 2
    assert "".join(line["delta"] for line in lines[:-1]) == said(http, "请用一句话总结量子计算")["content"]


def test_the_sdk_chats(sdk):
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
    whole = sdk.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 8
    chunks = list(sdk.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content == "Hello! How can I help you?"
    assert chunks[-1].usage == whole.usage
    stopped = sdk.chat.completions.create(stop=["can"], **asked)
    assert stopped.choices[0].message.content == "Hello! How "
    cut = sdk.chat.completions.create(max_tokens=2, n=3, **asked)
    assert [choice.finish_reason for choice in cut.choices] == ["length"] * 3
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.chat.completions.create(model="x", messages=[{"role": "user", "content": "x " * 5000}])
    assert refusal.value.param == "messages"


def test_the_sdk_embeds(sdk):
    coded = sdk.embeddings.create(model="Qwen/Qwen3-Embedding-4B", input=["a", "b"])  # base64, as it asks by itself
    plain = sdk.embeddings.create(model="x", input=["a", "b"], encoding_format="float")
    assert coded.model == "Qwen/Qwen3-Embedding-4B"
    for one, other in zip(coded.data, plain.data, strict=True):
        np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-6)
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)
    short = sdk.embeddings.create(model="x", input="a", dimensions=64).data[0].embedding
    assert len(short) == 64
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.embeddings.create(model="x", input="a", dimensions=4096)
    assert refusal.value.param == "dimensions"


def test_related_texts_are_nearer_than_unrelated_ones(http):
    def similarity(a, b):
        answer = http.post("/similarity", json={"a": a, "b": b})
        assert answer.headers["x-stepaudio-served-by"] == EMBEDDER
        return answer.json()["similarity"]

    related = [similarity(a, b) for a, b in RELATED]
    unrelated = [similarity(a, b) for a, _ in RELATED for _, b in RELATED if (a, b) not in RELATED]
    assert min(related) > 0.5 > max(unrelated)
    body = {"query": "python", "candidates": ["python tutorial", "java guide", "python flask"]}
    results = http.post("/rerank", json=body).json()["results"]
    assert results[-1]["index"] == 1
    vector = http.get(f"{QWEN}/hello%20world").json()
    assert (vector["text"], len(vector["vector"]), vector["dim"]) == ("hello world", 384, 384)
    assert http.post(QWEN, json={"texts": ["hello world", "python语言"]}).json()["count"] == 2


def test_vectors_do_not_depend_on_what_else_is_asked(server):
    texts = [f"text number {number}" + " and more" * (number % 9) for number in range(150)]

    async def ask():
        embedder = TritonEmbedder(server.grpc_url)
        alone = [(await embedder.embed([text], EmbeddingOptions())).vectors[0] for text in texts[:40]]
        crowd = await asyncio.gather(*(embedder.embed([text], EmbeddingOptions()) for text in texts))
        await embedder.close()
        return alone, [answer.vectors[0] for answer in crowd]

    alone, crowd = asyncio.run(ask())
    np.testing.assert_allclose(alone, crowd[:40], atol=1e-5)


def test_loaded_models_are_listed_and_say_what_they_are(http):
    cards = {card["id"]: card for card in http.get("/v1/models").json()["data"]}
    assert "demonstration model" in cards[CHAT]["description"]
    assert "384 dimensions" in cards[EMBEDDER]["description"]
    assert cards[EMBEDDER]["owned_by"] == "sentence-transformers"


def control(server, action, model):
    request = urllib.request.Request(f"http://{server.http_url}/v2/repository/models/{model}/{action}", data=b"{}")
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        assert answer.status == 200


def wait_for(condition, within=20.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("model", "served", "path", "body"),
    [
        ("text_embedder", EMBEDDER, "/similarity", {"a": "x", "b": "y"}),
        ("chat", CHAT, "/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_a_service_whose_model_is_unloaded_says_so_and_comes_back(server, http, model, served, path, body):
    control(server, "unload", model)
    try:
        wait_for(lambda: http.post(path, json=body).status_code == 503)
        assert model in http.post(path, json=body).json()["error"]
        wait_for(lambda: served not in http.get("/v1/models").text)
        assert http.get("/healthz").status_code == 200
    finally:
        control(server, "load", model)
    wait_for(lambda: http.post(path, json=body).status_code == 200)
    wait_for(lambda: served in http.get("/v1/models").text)


def test_callers_who_leave_free_the_model(server):
    async def leave():
        chat = TritonChat(server.grpc_url)
        for _ in range(20):
            job = ChatJob([{"role": "user", "content": "tell me"}], temperature=2.0)
            async with aclosing(chat.answer(job)) as pieces:
                async for _ in pieces:
                    break
        await chat.close()

    asyncio.run(leave())
    wait_for(lambda: stats(server)["under_way"] == 0, within=5)


def stats(server):
    answers = []
    with server.triton() as client:
        client.start_stream(lambda result, error: answers.append(error or result))
        client.async_stream_infer("chat", [tensor("op", np.array([b"stats"], object))])
        wait_for(lambda: answers)
        client.stop_stream()
    return json.loads(answers[0].as_numpy("description")[0])


def tensor(name, value):
    datatype = {"O": "BYTES", "f": "FP32", "i": "INT32", "b": "BOOL"}[value.dtype.kind]
    made = triton.InferInput(name, list(value.shape), datatype)
    made.set_data_from_numpy(value)
    return made


HI = np.array([json.dumps([{"role": "user", "content": "hi"}]).encode()], object)
BAD_TENSORS = [
    ("text_embedder", {}, "text: missing"),
    ("text_embedder", {"text": np.array([], object)}, "text: must hold 1 to 256"),
    ("text_embedder", {"text": np.array([b"x"] * 257, object)}, "text: must hold 1 to 256"),
    ("text_embedder", {"text": np.array([b""], object)}, "text: number 0 is empty"),
    ("text_embedder", {"text": np.array([b"a", b"\xff"], object)}, "text: number 1 is not valid UTF-8"),
    ("text_embedder", {"text": np.array([b"x" * 1_000_001], object)}, "text: number 0 is longer"),
    ("text_embedder", {"text": np.array([b"x"], object), "dimensions": np.array([0], np.int32)}, "dimensions"),
    ("text_embedder", {"text": np.array([b"x"], object), "pooling": np.array([b"max"], object)}, "pooling"),
    ("text_embedder", {"text": np.array([b"x"], object), "kind": np.array([b"song"], object)}, "kind"),
    ("text_embedder", {"op": np.array([b"dance"], object)}, "op: unknown"),
    ("chat", {}, "messages: missing"),
    ("chat", {"messages": np.array([b"\xff"], object)}, "messages: is not valid UTF-8"),
    ("chat", {"messages": np.array([b"[1]"], object)}, "messages: number 0"),
    ("chat", {"messages": HI, "temperature": np.array([np.nan], np.float32)}, "temperature: holds NaN"),
    ("chat", {"messages": HI, "temperature": np.array([-1], np.float32)}, "temperature"),
    ("chat", {"messages": HI, "max_tokens": np.array([0], np.int32)}, "max_tokens"),
    ("chat", {"messages": HI, "stop": np.array([b"x"] * 9, object)}, "stop"),
    ("chat", {"op": np.array([b"dance"], object)}, "op: unknown"),
]


@pytest.mark.parametrize(("model", "tensors", "words"), BAD_TENSORS)
def test_bad_tensors_are_refused_by_name(server, model, tensors, words):
    inputs = [tensor(name, value) for name, value in tensors.items()]
    if not inputs and model == "text_embedder":
        inputs = [tensor("normalize", np.array([True]))]
    if not inputs:
        inputs = [tensor("max_tokens", np.array([1], np.int32))]
    answers = []
    with server.triton() as client:
        client.start_stream(lambda result, error: answers.append(error or result))
        client.async_stream_infer(model, inputs)
        wait_for(lambda: answers)
        client.stop_stream()
    assert isinstance(answers[0], InferenceServerException)
    assert words in str(answers[0])


def test_bad_requests_do_not_stop_any_service(http, server):
    headers = {"content-type": "application/json"}
    deep = b'{"messages": ' + b"[" * 5000
    long = json.dumps({"messages": [{"role": "user", "content": "字" * 100_000}]}).encode()
    texts = json.dumps({"texts": ["word " * 20_000] * 30}).encode()
    bad = [
        ("/api/chat", b"{"), ("/api/chat", deep), ("/api/chat", long), ("/api/chat", b'{"messages": [{"role": 1}]}'),
        ("/api/chat/stream", b'{"messages": []}'), ("/v1/chat/completions", long), ("/v1/chat/completions", b"\xff"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "<|im_start|>"}]}'),
        ("/v1/embeddings", b'{"input": [[[1]]]}'), ("/v1/embeddings", b'{"input": "\\ud800"}'),
        ("/v1/embeddings", b'{"input": "x", "dimensions": 99999}'), (QWEN, b'{"texts": [""]}'), (QWEN, b"[]"),
        ("/similarity", b'{"a": [1e999], "b": [1]}'), ("/rerank", b'{"query": "x"}'), ("/rerank", b"null"),
    ]  # fmt: skip

    def send(request):
        path, content = request
        with httpx.Client(base_url=server.url, timeout=120) as client:
            return client.post(path, content=content, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        spoken = pool.submit(
            http.post,
            "/v1/audio/speech",
            json={"voice": "happy_en", "input": "Still here.", "step_audio": {"max_tokens": 30}},
        )
        heavy = pool.submit(send, (QWEN, texts))
        answers = list(pool.map(send, bad * 6))
    for (path, _), answer in zip(bad * 6, answers, strict=True):
        assert answer.status_code == 400, (path, answer.text[:300])
        assert "error" in answer.json()
    assert heavy.result().status_code == 200
    assert spoken.result().status_code == 200, spoken.result().text
    assert said(http, "hi")["content"].startswith("Hello")
    assert http.post("/similarity", json={"a": "x", "b": "x"}).json()["similarity"] == pytest.approx(1)
