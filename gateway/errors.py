"""Every refusal and failure a caller can meet, and the one place that puts them into OpenAI's error envelope."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from client.errors import DeadlineExceeded, InvalidInput, ModelFailed, QueueFull, ServerUnavailable, SpeechError

log = logging.getLogger(__name__)


class ApiError(HTTPException):
    """An answer other than success.

    Args:
        message: what is wrong and what to do, for people.
        param: dotted path of the field at fault.
        retry_after: seconds after which trying again makes sense.
    """

    status = 500
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None):
        headers = {} if retry_after is None else {"retry-after": str(max(1, retry_after))}
        super().__init__(self.status, message, headers)
        self.message = message
        self.param = param


class InvalidValue(ApiError):
    """A field holds what it must not."""

    status, code = 400, "invalid_value"


class InvalidJson(ApiError):
    """The body is not JSON."""

    status, code = 400, "invalid_json"


class InvalidForm(ApiError):
    """The body is not a multipart form."""

    status, code = 400, "invalid_form"


class MissingParameter(ApiError):
    """A field that this request needs is not there."""

    status, code = 400, "missing_required_parameter"


class InvalidVoice(ApiError):
    """No voice has this id."""

    status, code = 400, "invalid_voice"


class InvalidAudio(ApiError):
    """A clip cannot be decoded or used."""

    status, code = 400, "invalid_audio"


class AudioUrlError(ApiError):
    """A clip cannot be fetched from its URL."""

    status, code = 400, "audio_url_error"


class AudioTextRequired(ApiError):
    """An edit needs the words of the clip."""

    status, code = 400, "audio_text_required"


class TranscriptionFailed(ApiError):
    """No words were found in a clip whose words are needed."""

    status, code = 400, "audio_transcription_failed"


class Unsupported(ApiError):
    """No model served here can do this."""

    status, code = 400, "unsupported_operation"


class PromptTextRequired(ApiError):
    """A clone needs the words of the reference clip."""

    status, code = 400, "prompt_text_required"


class VariantUnavailable(ApiError):
    """The named weights are not loaded."""

    status, code = 400, "model_variant_unavailable"


class MissingKey(ApiError):
    """Keys are configured and the request brings none."""

    status = 401


class InvalidKey(ApiError):
    """The request's key is not one of ours."""

    status, code = 401, "invalid_api_key"


class NotFound(ApiError):
    """Nothing lives at this path."""

    status, code = 404, "not_found"


class MethodNotAllowed(ApiError):
    """The path exists, but not for this method."""

    status, code = 405, "method_not_allowed"


class ModelNotFound(ApiError):
    """No model has this id."""

    status, code = 404, "model_not_found"


class PayloadTooLarge(ApiError):
    """The body is over the limit."""

    status, code = 413, "payload_too_large"


class UnsupportedMediaType(ApiError):
    """The body's Content-Type is not the one this path takes."""

    status, code = 415, "unsupported_media_type"


class RateLimited(ApiError):
    """More is waiting than the system takes on."""

    status, code = 429, "rate_limit_exceeded"


class BackendFailed(ApiError):
    """The model broke while it worked on the request."""

    status = 500


class CudaOutOfMemory(ApiError):
    """The GPU's memory did not suffice."""

    status, code = 500, "cuda_out_of_memory"


class Unavailable(ApiError):
    """The models cannot be reached."""

    status, code = 503, "service_unavailable"


class TimedOut(ApiError):
    """The deadline passed."""

    status, code = 504, "timeout"


def from_backend(error: SpeechError, params: Mapping[str, str]) -> ApiError:
    """Turn what the models said into what the caller of the HTTP API understands.

    Args:
        error: the refusal or failure.
        params: the request field behind each tensor, where their names differ.
    """
    match error:
        case InvalidInput(field="audio" | "sample_rate"):
            return InvalidAudio(f"the clip cannot be used: {error.problem}", param=params.get("audio"))
        case InvalidInput(field=""):
            return InvalidValue(error.problem)
        case InvalidInput():
            param = params.get(error.field, f"step_audio.{error.field}")
            return InvalidValue(f"{param}: {error.problem}", param=param)
        case QueueFull():
            return RateLimited(f"too many requests are waiting ({error})", retry_after=2)
        case ServerUnavailable():
            return Unavailable("the speech models cannot be reached at the moment", retry_after=5)
        case DeadlineExceeded():
            return TimedOut(str(error))
        case ModelFailed() if "CUDA out of memory" in str(error):
            return CudaOutOfMemory(str(error))
        case _:
            return BackendFailed(f"the speech model failed: {error}")


def from_validation(errors: Sequence[Any]) -> ApiError:
    """Turn pydantic's findings into ours; the first one is reported."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query")]
    param = ".".join(where) or None
    if first["type"] == "missing":
        return MissingParameter(f"{param or 'the body'}: is required", param=param)
    problem = first["msg"][:1].lower() + first["msg"][1:]
    return InvalidValue(f"{param}: {problem}" if param else problem, param=param)


def envelope(error: HTTPException) -> dict[str, Any]:
    """Return the body that the official SDK (`error`) and older clients (`detail`) read."""
    message = _printable(error.message if isinstance(error, ApiError) else str(error.detail))
    param = getattr(error, "param", None)
    if error.status_code == 503:
        kind = "service_unavailable_error"
    elif error.status_code >= 500:
        kind = "server_error"
    elif error.status_code == 429:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error"
    body = {
        "message": message,
        "type": kind,
        "param": param and _printable(param),
        "code": getattr(error, "code", None),
    }
    return {"error": body, "detail": message}


def response(error: HTTPException) -> JSONResponse:
    """Return the answer that tells of `error`."""
    return JSONResponse(envelope(error), error.status_code, error.headers)


def _printable(text: str) -> str:
    """Return `text` fit for UTF-8: what a request quotes may hold half surrogate pairs."""
    return text.encode("utf-8", "backslashreplace").decode()


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
