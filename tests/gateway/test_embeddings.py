import base64
import json
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from client.errors import InvalidInput, ModelFailed, QueueFull, ServerUnavailable
from gateway.app import create_app
from gateway.embedding import TEXTS_AT_ONCE
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import assert_error
from tests.gateway.neighbours import FakeEmbedder, FakeTritonChat, fakes

pytestmark = pytest.mark.anyio
QWEN = "/Qwen3-Embedding-4B"


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
async def http(backend: FakeBackend, settings: Settings, embedder: FakeEmbedder) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, backend, neighbours=fakes(FakeTritonChat(), embedder))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


def assert_plain(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


async def test_one_text_in_the_path(http: httpx.AsyncClient, embedder: FakeEmbedder) -> None:
    answer = await http.get(f"{QWEN}/hello+big%20world%2F1%2B1/x")
    body = answer.json()
    assert set(body) == {"model", "text", "dim", "pooling", "normalized", "elapsed_ms", "vector", "note"}
    assert (body["text"], body["dim"], body["pooling"]) == ("hello big world/1+1/x", 26, "mean")
    assert body["model"] == "Qwen/Qwen3-Embedding-4B"
    assert answer.headers["x-stepaudio-served-by"] == "fake/embedder"
    assert np.linalg.norm(body["vector"]) == pytest.approx(1)
    assert (await http.get(f"{QWEN}/two%0Alines")).json()["text"] == "two\nlines"
    options = {"dim": 3, "normalize": "false", "pooling": "cls", "prefix": "a: ", "instruction": "find"}
    body = (await http.get(f"{QWEN}/b", params=options)).json()
    assert (body["dim"], body["normalized"], body["pooling"]) == (3, False, "cls")
    assert "instruction was left out" in body["note"]
    texts, asked = embedder.calls[-1]
    assert (texts, asked.dimensions, asked.pooling, asked.instruction) == (["a: b"], 3, "cls", "find")


async def test_many_texts_go_in_parts_and_come_back_in_order(http: httpx.AsyncClient, embedder: FakeEmbedder) -> None:
    texts = ["z" * (number % 7 + 1) for number in range(2 * TEXTS_AT_ONCE + 3)]
    body = (await http.post(QWEN, json={"texts": texts, "normalize": False})).json()
    assert body["count"] == len(body["vectors"]) == len(texts)
    assert [round(vector[25]) for vector in body["vectors"]] == [len(text) for text in texts]
    assert [len(sent) for sent, _ in embedder.calls] == [TEXTS_AT_ONCE, TEXTS_AT_ONCE, 3]


async def test_any_content_type_is_read_as_json(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await http.post(QWEN, content=b'{"texts": ["x"]}', headers=headers)
    assert answer.status_code == 200


async def test_similarity_of_texts_and_vectors(http: httpx.AsyncClient) -> None:
    async def similarity(a: object, b: object) -> float:
        return (await http.post("/similarity", json={"a": a, "b": b})).json()["similarity"]

    assert await similarity("aab", "baa") == pytest.approx(1)
    assert await similarity("aab", "xyz") < 0.1
    assert await similarity([3, 4], [4, 3]) == pytest.approx(0.96)
    assert await similarity([1e300, 0], [-1e300, 0]) == -1
    assert await similarity("a", [1] + [0] * 25) > 0.9


async def test_rerank_sorts_and_gives_the_query_alone_its_instruction(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    body = {"query": "abc", "candidates": ["xyz", "abc", "abx"], "instruction": "find"}
    answer = (await http.post("/rerank", json=body)).json()
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    assert answer["results"][0]["text"] == "abc"
    (_, query), (_, candidates) = embedder.calls
    assert (query.kind, query.instruction) == ("query", "find")
    assert (candidates.kind, candidates.instruction) == ("document", None)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (QWEN, {"texts": []}, "texts"),
        (QWEN, {"texts": "x"}, "texts"),
        (QWEN, {"texts": ["a", " "]}, "texts.1: is blank"),
        (QWEN, {"texts": ["a"], "dim": 0}, "dim"),
        (QWEN, {"texts": ["a"], "pooling": "max"}, "pooling"),
        (QWEN, {"texts": ["\ud800"]}, "Unicode"),
        ("/similarity", {"a": "x"}, "b: is required"),
        ("/similarity", {"a": {"x": 1}, "b": "y"}, "a: must be a text or a list of numbers"),
        ("/similarity", {"a": [1], "b": [1, 2]}, "b: has 2 numbers, a has 1"),
        ("/similarity", {"a": [0, 0], "b": [1, 2]}, "a: all numbers are zero"),
        ("/similarity", {"a": "x", "b": [1, 2]}, "b: has 2 numbers"),
        ("/rerank", {"query": "", "candidates": ["x"]}, "query"),
        ("/rerank", {"query": "q", "candidates": []}, "candidates"),
    ],
)
async def test_bad_requests(http: httpx.AsyncClient, path: str, body: dict[str, object], words: str) -> None:
    assert_plain(await http.post(path, content=json.dumps(body)), 400, words)


async def test_what_is_no_json_or_blank(http: httpx.AsyncClient) -> None:
    assert_plain(await http.post("/rerank", content=b"{"), 400, "not valid JSON")
    assert_plain(await http.get(f"{QWEN}/%20+"), 400, "text: is blank")
    assert_plain(await http.get(f"{QWEN}/x?pooling=best"), 400, "pooling")


async def test_openai_form(http: httpx.AsyncClient) -> None:
    async def embed(**body: object) -> httpx.Response:
        return await http.post("/v1/embeddings", json={"model": "text-embedding-3-small", **body})

    floats = (await embed(input=["ab c", "d"], dimensions=4)).json()
    assert (floats["object"], floats["model"]) == ("list", "text-embedding-3-small")
    assert [item["index"] for item in floats["data"]] == [0, 1]
    assert floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    coded = (await embed(input="ab c", dimensions=4, encoding_format="base64")).json()["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(coded), "<f4")
    np.testing.assert_allclose(decoded, floats["data"][0]["embedding"], rtol=1e-6)
    answer = await embed(input=" ".join(["long"] * 9))
    assert "cut: 1" in answer.headers["x-stepaudio-warning"]
    for bad in ("", [], [""], [["x"]], 5, None, {"a": 1}):
        assert_error(await embed(input=bad), 400, "invalid_value", "input")
    for tokens in ([1, 2], [[1], [2]]):
        assert "token ids" in assert_error(await embed(input=tokens), 400, "invalid_value", "input")
    assert_error(await embed(), 400, "missing_required_parameter", "input")
    assert_error(await embed(input="x", encoding_format="hex"), 400, "invalid_value", "encoding_format")
    assert_error(await embed(input="x", dimensions=0), 400, "invalid_value", "dimensions")


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (ServerUnavailable("gone"), 503, "service_unavailable"),
        (QueueFull("queue full"), 429, "rate_limit_exceeded"),
        (ModelFailed("broken"), 500, None),
        (InvalidInput("dimensions", "must be smaller"), 400, "invalid_value"),
    ],
)
async def test_failures(
    http: httpx.AsyncClient, embedder: FakeEmbedder, failure: Exception, status: int, code: str | None
) -> None:
    embedder.failure = failure
    answer = await http.post("/v1/embeddings", json={"input": "x"})
    param = "dimensions" if status == 400 else None
    message = assert_error(answer, status, code, param)
    assert status != 503 or "text_embedder" in message
    plain = await http.post(QWEN, json={"texts": ["x"]})
    assert_plain(plain, status, "dim:" if status == 400 else "")


async def test_a_model_that_is_not_loaded_is_named_and_not_listed(
    http: httpx.AsyncClient, embedder: FakeEmbedder, backend: FakeBackend, settings: Settings
) -> None:
    listed = {card["id"] for card in (await http.get("/v1/models")).json()["data"]}
    assert {"fake/embedder", "fake/chat"} <= listed
    embedder.loaded, embedder.failure = False, ServerUnavailable("unknown model")
    assert "fake/embedder" not in (await http.get("/v1/models")).text
    assert_plain(await http.post("/rerank", json={"query": "q", "candidates": ["c"]}), 503, "text_embedder")
    # Vectors are compared without a model.
    assert (await http.post("/similarity", json={"a": [1], "b": [2]})).json()["similarity"] == 1
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(settings, backend)), base_url="http://gateway"
    ) as bare:
        assert_plain(await bare.get(f"{QWEN}/x"), 503, "text_embedder")
        assert_error(await bare.post("/v1/embeddings", json={"input": "x"}), 503, "service_unavailable")


async def test_the_services_own_port(backend: FakeBackend, settings: Settings, embedder: FakeEmbedder) -> None:
    app = create_app(settings, backend, neighbours=fakes(FakeTritonChat(), embedder))
    transport = httpx.ASGITransport(app)

    async def ask(port: int, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url=f"http://gateway:{port}") as client:
            return await client.get(path, headers=headers)

    assert (await ask(7202, "/")).json() == {"ok": True, "model": "fake/embedder"}
    assert (await ask(7202, "/", Accept="text/html")).text != (await ask(7202, "/")).text
    config = (await ask(7202, "/config")).json()
    assert (config["model"], config["max_length"]) == ("fake/embedder", 8)
    assert config["defaults"] == {"pooling": "mean", "normalize": True, "dim": 26}
    for path in ("/health", "/metrics"):
        body = (await ask(7202, path)).json()
        assert (body["status"], body["queue_len"], body["device"]) == ("ok", 0, "cpu")
    embedder.loaded = False
    assert (await ask(7202, "/health")).json()["status"] == "unavailable"
    assert_plain(await ask(7202, "/config"), 503, "text_embedder")
    assert (await ask(7860, "/metrics")).headers["content-type"].startswith("text/plain")
    assert (await ask(7860, "/health")).json()["model"] == "fake/chat"
    assert (await ask(7861, "/health")).json()["status"] == "healthy"


async def test_connections_are_closed_with_the_application(settings: Settings, backend: FakeBackend) -> None:
    chat, embedder = FakeTritonChat(), FakeEmbedder()
    app = create_app(settings, backend, neighbours=fakes(chat, embedder))
    async with app.router.lifespan_context(app):
        assert not chat.closed
    assert chat.closed
    assert embedder.closed
