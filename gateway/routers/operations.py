"""What operators and their tools ask for."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.backend import Backend
from gateway.metrics import Metrics
from gateway.schemas import Health


def router(backend: Backend, metrics: Metrics) -> APIRouter:
    """Return the routes of health and metrics."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz", responses={503: {"model": Health, "description": "The models are still loading."}})
    async def healthz(response: Response) -> Health:
        """Answer 200 once speech can be made (readiness)."""
        if await backend.ready():
            return Health(status="ok")
        response.status_code = 503
        return Health(status="starting")

    @routes.get("/livez")
    async def livez() -> Health:
        """Answer 200 as long as the gateway itself runs (liveness)."""
        return Health(status="ok")

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        """Show Prometheus metrics."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
