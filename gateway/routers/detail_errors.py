"""Errors as `{"detail": …}`: the form of VoxCPM's service, which was written with FastAPI."""

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


class Detail(BaseModel):
    """The body of an answer that is no success."""

    detail: str


class Finding(BaseModel):
    """A field that is missing."""

    type: str
    loc: list[str | int]
    msg: str


class Findings(BaseModel):
    """The body of an answer to a request that lacks fields."""

    detail: list[Finding]


class DetailRoute(APIRoute):
    """A route that answers so: 422 with a list where a field is missing, 400 with a text where a value is wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        handle = super().get_route_handler()

        async def serve(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                return _answer(error)
            except RequestValidationError as error:
                missing = [finding for finding in error.errors() if finding["type"] == "missing"]
                if not missing:
                    return _answer(from_validation(error.errors()))
                found = [Finding(type="missing", loc=["body", *each["loc"]], msg=each["msg"]) for each in missing]
                return JSONResponse(Findings(detail=found).model_dump(), HTTPStatus.UNPROCESSABLE_ENTITY)

        return serve


def _answer(error: HTTPException) -> JSONResponse:
    return JSONResponse({"detail": envelope(error)["detail"]}, error.status_code, error.headers)


def details(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for such answers."""
    return {
        status: {"model": Findings if status == 422 else Detail, "description": HTTPStatus(status).phrase}
        for status in statuses
    }
