"""The voice cache and the log of what was done, for pages and people who watch them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from client.errors import SpeechError
from gateway.activity import KEPT, Activity
from gateway.backend import Backend
from gateway.errors import from_backend
from gateway.routers.documented import errors
from gateway.schemas import CacheStats, LogLines

SHOWN = 50


def router(backend: Backend, activity: Activity) -> APIRouter:
    """Return the routes `/v1/cache` and `/v1/logs`."""
    routes = APIRouter(prefix="/v1", tags=["operations"])

    @routes.get("/cache", responses=errors(500, 503))
    async def get_cache() -> CacheStats:
        """Tell what the voice cache holds, and how often it helped since the models were loaded."""
        try:
            return CacheStats.model_validate(await backend.cache_stats())
        except SpeechError as error:
            raise from_backend(error, {}) from error

    @routes.delete("/cache", responses=errors(500, 503))
    async def clear_cache() -> CacheStats:
        """Forget every voice, in memory, on disk and in a shared store, and begin to count anew."""
        try:
            state: dict[str, Any] = await backend.clear_cache()
        except SpeechError as error:
            raise from_backend(error, {}) from error
        activity.say("cache cleared")
        return CacheStats.model_validate(state)

    @routes.get("/logs", responses=errors(400))
    async def get_logs(
        limit: Annotated[int, Query(ge=1, le=KEPT, description="Lines to return, the latest ones.")] = SHOWN,
    ) -> LogLines:
        """Show what was done lately, `[HH:MM:SS] text`."""
        return LogLines(data=activity.last(limit))

    @routes.delete("/logs")
    async def clear_logs() -> LogLines:
        """Drop the lines."""
        activity.clear()
        return LogLines(data=activity.last(SHOWN))

    return routes
