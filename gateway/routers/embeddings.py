"""Vectors of texts: OpenAI's form, and the paths of the Qwen3-Embedding service."""

import base64
import json
import time
from typing import Annotated, Any
from urllib.parse import unquote_plus

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from starlette.convertors import Convertor, register_url_convertor

from client.embedding import Embedded, EmbeddingOptions
from gateway.disconnect import CallerGone, unless_gone
from gateway.embedding import EmbeddingService, check_not_blank, cosine
from gateway.embedding_schemas import (
    EmbeddingList,
    EmbeddingQuery,
    EmbeddingSettings,
    EmbeddingsRequest,
    Ranking,
    RerankRequest,
    Similarity,
    SimilarityRequest,
    TextsRequest,
    TextVector,
    TextVectors,
)
from gateway.errors import InvalidValue
from gateway.headers import field_value
from gateway.routers.documented import errors
from gateway.routers.json_body import json_body, read_json
from gateway.routers.plain_errors import PlainErrorRoute, plain_errors

ECHOED = "Qwen/Qwen3-Embedding-4B"
"""The model that clients of these paths ask for; a header names the one that answered."""
_FAULTS = plain_errors(400, 413, 429, 500, 503, 504)
_PARAMS = {"dimensions": "dim"}


class _AnyText(Convertor[str]):
    """The rest of a path; Starlette's own ends at a line break."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it is."""
        return value


register_url_convertor("any_text", _AnyText())


def openai_router(service: EmbeddingService) -> APIRouter:
    """Return OpenAI's `/v1/embeddings`."""
    routes = APIRouter(prefix="/v1", tags=["embeddings"])

    @routes.post(
        "/embeddings",
        response_class=Response,
        responses={200: {"model": EmbeddingList}, **errors(400, 401, 413, 415, 429, 500, 503, 504)},
    )
    async def create_embeddings(request: Request, body: EmbeddingsRequest) -> Response:
        """Embed texts in OpenAI's form."""
        texts = _texts(body)
        options = EmbeddingOptions(dimensions=body.dimensions)
        try:
            embedded = await unless_gone(request, service.embed(texts, options, {"text": "input"}))
        except CallerGone:
            return Response(status_code=499)
        return await _answer(lambda: _openai_list(body, embedded), embedded, _warnings(embedded))

    return routes


def qwen_router(service: EmbeddingService) -> APIRouter:
    """Return the paths of the Qwen3-Embedding service."""
    routes = APIRouter(tags=["embeddings"], route_class=PlainErrorRoute)

    async def embed(
        request: Request, texts: list[str], asked: EmbeddingSettings, kind: str = "document", param: str = "texts"
    ) -> tuple[Embedded, dict[str, Any], list[str]]:
        check_not_blank(texts, param)
        known = await service.description()
        options = EmbeddingOptions(kind, asked.instruction, asked.dim, asked.pooling, asked.normalize)
        prefixed = [asked.prefix + text for text in texts]
        embedded = await unless_gone(request, service.embed(prefixed, options, {**_PARAMS, "text": param}))
        notes = _warnings(embedded)
        if asked.instruction and not known["instruction"]:
            notes.append("this model was not trained with instructions: the instruction was left out")
        return embedded, known, notes

    @routes.get("/Qwen3-Embedding-4B/{text:any_text}", response_model=TextVector, responses=_FAULTS)
    async def embed_one(request: Request, text: str, asked: Annotated[EmbeddingQuery, Query()]) -> Response:
        """Embed the text in the path; `+` and `%20` are spaces."""
        sent = request.scope.get("raw_path", b"").decode("latin-1").partition("/Qwen3-Embedding-4B/")[2]
        text = unquote_plus(sent) if sent else text
        started = time.perf_counter()
        embedded, known, notes = await embed(request, [text], asked, param="text")
        return await _answer(lambda: _one(text, asked, embedded, known, notes, started), embedded, notes)

    @routes.post(
        "/Qwen3-Embedding-4B",
        response_model=TextVectors,
        responses=_FAULTS,
        openapi_extra=json_body(TextsRequest, {"texts": ["hello world", "python语言"]}),
    )
    async def embed_many(request: Request) -> Response:
        """Embed several texts."""
        body = await read_json(request, TextsRequest)
        started = time.perf_counter()
        embedded, known, notes = await embed(request, body.texts, body)
        return await _answer(lambda: _many(body, embedded, known, notes, started), embedded, notes)

    @routes.post(
        "/similarity",
        response_model=Similarity,
        responses=_FAULTS,
        openapi_extra=json_body(SimilarityRequest, {"a": "python programming", "b": "learn python"}),
    )
    async def similarity(request: Request) -> Response:
        """Compare two texts, or vectors."""
        body = await read_json(request, SimilarityRequest)
        sides = {"a": body.a, "b": body.b}
        texts = {name: side for name, side in sides.items() if isinstance(side, str)}
        vectors = {name: np.array(side, np.float64) for name, side in sides.items() if not isinstance(side, str)}
        embedded, pooling, notes = None, body.pooling or "mean", list[str]()
        if texts:
            for name, text in texts.items():
                check_not_blank([text], name)
            embedded, known, notes = await embed(request, list(texts.values()), body, param="/".join(texts))
            vectors |= dict(zip(texts, embedded.vectors, strict=True))
            pooling = body.pooling or known["pooling"]
        answer = {"model": ECHOED, "similarity": cosine(vectors["a"], vectors["b"])}
        return await _answer(lambda: {**answer, "pooling": pooling, "normalized": True}, embedded, notes)

    @routes.post(
        "/rerank",
        response_model=Ranking,
        responses=_FAULTS,
        openapi_extra=json_body(RerankRequest, {"query": "python", "candidates": ["python tutorial", "java guide"]}),
    )
    async def rerank(request: Request) -> Response:
        """Order texts by how well they fit a query. An instruction is for the query alone."""
        body = await read_json(request, RerankRequest)
        query, _, notes = await embed(request, [body.query], body, kind="query", param="query")
        plain = body.model_copy(update={"instruction": None})
        embedded, _, more = await embed(request, body.candidates, plain, param="candidates")
        scores = [cosine(query.vectors[0], vector) for vector in embedded.vectors]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        results = [{"index": index, "text": body.candidates[index], "score": scores[index]} for index in order]
        return await _answer(lambda: {"model": ECHOED, "results": results}, embedded, [*notes, *more])

    return routes


def _texts(body: EmbeddingsRequest) -> list[str]:
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not all(isinstance(text, str) for text in texts):
        raise InvalidValue(
            "input: token ids belong to the vocabulary of another model and mean nothing here; send the text itself",
            param="input",
        )
    return [text for text in texts if isinstance(text, str)]


def _openai_list(body: EmbeddingsRequest, embedded: Embedded) -> dict[str, Any]:
    vectors = embedded.vectors
    coded: list[Any] = vectors.tolist() if body.encoding_format == "float" else [_base64(row) for row in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": item} for index, item in enumerate(coded)],
        "model": body.model or embedded.model,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _common(asked: EmbeddingSettings, embedded: Embedded, known: dict[str, Any], started: float) -> dict[str, Any]:
    return {
        "model": ECHOED,
        "dim": embedded.vectors.shape[1],
        "pooling": asked.pooling or known["pooling"],
        "normalized": asked.normalize,
        "elapsed_ms": round((time.perf_counter() - started) * 1000, 3),
    }


def _one(
    text: str, asked: EmbeddingSettings, embedded: Embedded, known: dict[str, Any], notes: list[str], started: float
) -> dict[str, Any]:
    common = _common(asked, embedded, known, started)
    return {**common, "text": text, "vector": embedded.vectors[0].tolist(), "note": _note(embedded, notes)}


def _many(
    asked: TextsRequest, embedded: Embedded, known: dict[str, Any], notes: list[str], started: float
) -> dict[str, Any]:
    vectors = embedded.vectors.tolist()
    common = _common(asked, embedded, known, started)
    return {**common, "count": len(vectors), "vectors": vectors, "note": _note(embedded, notes)}


def _note(embedded: Embedded, notes: list[str]) -> str:
    return "; ".join([f"by {embedded.model}", *notes])


def _warnings(embedded: Embedded) -> list[str]:
    return [f"texts longer than the model takes were cut: {embedded.cut}"] if embedded.cut else []


async def _answer(make: Any, embedded: Embedded | None, notes: list[str]) -> Response:
    """Write the JSON in a thread: a large one takes a while, in which others are to be served."""
    headers = {} if embedded is None else {"X-StepAudio-Served-By": field_value(embedded.model)}
    if notes:
        headers["X-StepAudio-Warning"] = field_value("; ".join(notes))
    content = await to_thread.run_sync(lambda: json.dumps(make(), ensure_ascii=False).encode())
    return Response(content, media_type="application/json", headers=headers)
