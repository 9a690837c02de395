"""Errors as `{"error": "<message>"}`: the form of the neighbouring services, which were written with Flask."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gateway.errors import envelope, from_validation


class PlainError(BaseModel):
    """The body of every answer that is no success."""

    error: str


class PlainErrorRoute(APIRoute):
    """A route that answers so; give it to `APIRouter(route_class=…)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        handle = super().get_route_handler()

        async def serve(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                return plain_response(error)
            except RequestValidationError as error:
                return plain_response(from_validation(error.errors()))

        return serve


def plain_response(error: HTTPException) -> JSONResponse:
    """Return the answer that tells of `error`."""
    return JSONResponse({"error": envelope(error)["detail"]}, error.status_code, error.headers)


def plain_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for such answers."""
    return {status: {"model": PlainError, "description": HTTPStatus(status).phrase} for status in statuses}
