"""The listed tags."""

from fastapi import APIRouter

from gateway.schemas import TagLists
from gateway.tags import TAGS


def router() -> APIRouter:
    """Return the route of `/v1/tags`."""
    routes = APIRouter(tags=["voices and tags"])

    @routes.get("/v1/tags")
    async def list_tags() -> TagLists:
        """List the tags the model was trained on, by mode."""
        return TagLists(data={mode: list(tags) for mode, tags in TAGS.items()})

    return routes
