"""The health of all services in one object."""

from fastapi import APIRouter, Request

from gateway.backend import Backend
from gateway.chat import ChatService
from gateway.chat_schemas import ServiceHealth
from gateway.ports import VOXCPM, Port


def router(backend: Backend, chat: ChatService) -> APIRouter:
    """Return the route of `/health`."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/health")
    async def health(request: Request, port: Port) -> ServiceHealth:
        """Tell whether speech can be made, and which model chats."""
        model = await chat.model()
        return ServiceHealth(
            status="healthy" if port == VOXCPM else "ok",
            model=None if model is None else model.id,
            model_loaded=await backend.ready(),
            version=request.app.version,
        )

    return routes
