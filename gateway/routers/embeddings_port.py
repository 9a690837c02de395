"""What the embeddings service's own port has at paths that mean something else on the others."""

from fastapi import APIRouter
from starlette.routing import Match
from starlette.types import Scope

from gateway.embedding import TEXTS_AT_ONCE, EmbeddingService
from gateway.embedding_schemas import EmbeddingsConfig, EmbeddingsHealth, EmbeddingsInfo
from gateway.ports import EMBEDDINGS
from gateway.routers.plain_errors import PlainErrorRoute


class _OwnPortRoute(PlainErrorRoute):
    """A route that exists only on the port of the embeddings service, and there not for browsers at `/`."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether this route is for the request in `scope`."""
        _, port = scope.get("server") or (None, None)
        accepted = next((value for name, value in scope.get("headers", ()) if name == b"accept"), b"")
        if port != EMBEDDINGS or (scope.get("path") == "/" and b"text/html" in accepted):
            return Match.NONE, {}
        return super().matches(scope)


def router(service: EmbeddingService) -> APIRouter:
    """Return these routes; include them before those they stand for."""
    routes = APIRouter(tags=["embeddings"], route_class=_OwnPortRoute, include_in_schema=False)

    @routes.get("/")
    async def info() -> EmbeddingsInfo:
        """Name the model."""
        return EmbeddingsInfo(model=str((await service.description())["model"]))

    async def health() -> EmbeddingsHealth:
        """Tell how the service is."""
        known = await service.loaded()
        return EmbeddingsHealth(
            status="unavailable" if known is None else "ok",
            model=None if known is None else str(known["model"]),
            queue_len=service.waiting,
            device="none" if known is None else str(known["device"]),
            dtype="float32",
            attn_impl="onnxruntime",
            flash_attention_enabled=False,
            quant_mode="none",
        )

    routes.add_api_route("/health", health)
    routes.add_api_route("/metrics", health)

    @routes.get("/config")
    async def config() -> EmbeddingsConfig:
        """Tell limits and defaults."""
        known = await service.description()
        return EmbeddingsConfig(
            model=str(known["model"]),
            max_length=known["max_tokens"],
            batch_max_size=TEXTS_AT_ONCE,
            batch_timeout_ms=0,
            defaults={"pooling": known["pooling"], "normalize": True, "dim": known["dimensions"]},
        )

    return routes
