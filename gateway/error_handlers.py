"""How the application answers what the framework refuses, and what routes raise: always in the error envelope."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from gateway.errors import (
    ApiError,
    InvalidForm,
    InvalidJson,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
    from_validation,
    response,
)


def install(app: FastAPI) -> None:
    """Make `app` answer every error with the envelope."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return response(_ours(request, error))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        findings = error.errors()
        if any(finding["type"] == "json_invalid" for finding in findings):
            return response(InvalidJson("the body is not valid JSON"))
        sent = request.headers.get("content-type", "")
        if isinstance(error.body, bytes):
            return response(UnsupportedMediaType(f"Content-Type must be application/json, is {sent or 'missing'}"))
        if isinstance(error.body, FormData) and not sent.startswith("multipart/form-data"):
            return response(UnsupportedMediaType(f"Content-Type must be multipart/form-data, is {sent or 'missing'}"))
        return response(from_validation(findings))


def _methods(request: Request) -> list[str]:
    """Return what may be asked of the request's path; the framework knows only its first route."""

    def served(method: str) -> bool:
        scope = dict(request.scope, method=method)
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT") if served(method)]


def _ours(request: Request, error: HTTPException) -> HTTPException:
    """Give the framework's own refusals their code."""
    if isinstance(error, ApiError):
        return error
    path = request.url.path
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound(f"nothing is served at {request.method} {path}")
        case HTTPStatus.BAD_REQUEST if "json" in request.headers.get("content-type", ""):
            return InvalidJson("the body is not valid JSON")
        case HTTPStatus.BAD_REQUEST:
            return InvalidForm(f"the body cannot be read: {error.detail}")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            refusal = MethodNotAllowed(f"{request.method} is not served at {path}")
            refusal.headers = {"allow": ", ".join(_methods(request))}
            return refusal
        case _:
            return error
