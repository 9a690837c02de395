"""Whether the service can serve."""

from fastapi import APIRouter, Response

from gateway.backend import Backend
from gateway.schemas import Health


def router(backend: Backend) -> APIRouter:
    """Return the route of `/healthz`."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", responses={503: {"model": Health, "description": "The models are still loading."}})
    async def healthz(response: Response) -> Health:
        """Answer 200 once speech can be made."""
        if await backend.ready():
            return Health(status="ok")
        response.status_code = 503
        return Health(status="starting")

    return routes
