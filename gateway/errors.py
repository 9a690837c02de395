"""Every refusal and failure a caller can meet, and the one place that puts them into OpenAI's error envelope."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from client.errors import DeadlineExceeded, InvalidInput, ModelFailed, QueueFull, ServerUnavailable, SpeechError


class ApiError(HTTPException):
    """An answer other than success.

    Args:
        message: what is wrong and what to do, for people.
        param: dotted path of the field at fault.
        retry_after: seconds after which trying again makes sense.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str | None] = None

    def __init_subclass__(cls, *, status: int, code: str | None = None):
        cls.status, cls.code = status, code

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None):
        headers = {} if retry_after is None else {"retry-after": str(max(1, retry_after))}
        super().__init__(self.status, message, headers)
        self.message = message
        self.param = param


class InvalidValue(ApiError, status=400, code="invalid_value"):
    """A field holds what it must not."""


class InvalidJson(ApiError, status=400, code="invalid_json"):
    """The body is not JSON."""


class InvalidForm(ApiError, status=400, code="invalid_form"):
    """The body is not a multipart form."""


class MissingParameter(ApiError, status=400, code="missing_required_parameter"):
    """A field that this request needs is not there."""


class InvalidVoice(ApiError, status=400, code="invalid_voice"):
    """No voice has this id."""


class InvalidAudio(ApiError, status=400, code="invalid_audio"):
    """A clip cannot be decoded or used."""


class AudioUrlError(ApiError, status=400, code="audio_url_error"):
    """A clip cannot be fetched from its URL."""


class AudioTextRequired(ApiError, status=400, code="audio_text_required"):
    """An edit needs the words of the clip."""


class TranscriptionFailed(ApiError, status=400, code="audio_transcription_failed"):
    """No words were found in a clip whose words are needed."""


class Unsupported(ApiError, status=400, code="unsupported_operation"):
    """No model served here can do this."""


class PromptTextRequired(ApiError, status=400, code="prompt_text_required"):
    """A clone needs the words of the reference clip."""


class VariantUnavailable(ApiError, status=400, code="model_variant_unavailable"):
    """The named weights are not loaded."""


class MissingKey(ApiError, status=401):
    """Keys are configured and the request brings none."""


class InvalidKey(ApiError, status=401, code="invalid_api_key"):
    """The request's key is not one of ours."""


class NotFound(ApiError, status=404, code="not_found"):
    """Nothing lives at this path."""


class MethodNotAllowed(ApiError, status=405, code="method_not_allowed"):
    """The path exists, but not for this method."""


class ModelNotFound(ApiError, status=404, code="model_not_found"):
    """No model has this id."""


class PayloadTooLarge(ApiError, status=413, code="payload_too_large"):
    """The body is over the limit."""


class UnsupportedMediaType(ApiError, status=415, code="unsupported_media_type"):
    """The body's Content-Type is not the one this path takes."""


class RateLimited(ApiError, status=429, code="rate_limit_exceeded"):
    """More is waiting than the system takes on."""


class BackendFailed(ApiError, status=500):
    """The model broke while it worked on the request."""


class CudaOutOfMemory(ApiError, status=500, code="cuda_out_of_memory"):
    """The GPU's memory did not suffice."""


class Unavailable(ApiError, status=503, code="service_unavailable"):
    """The models cannot be reached."""


class TimedOut(ApiError, status=504, code="timeout"):
    """The deadline passed."""


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


def from_neighbour(error: SpeechError, model: str, params: Mapping[str, str]) -> ApiError:
    """Turn what a model beside speech said into what the caller understands.

    Args:
        error: the refusal or failure.
        model: the Triton model that was asked.
        params: the request field behind each tensor, where their names differ.
    """
    match error:
        case ServerUnavailable():
            return Unavailable(f"the model {model} is not loaded, or cannot be reached at the moment", retry_after=5)
        case InvalidInput() if error.field:
            param = params.get(error.field, error.field)
            return InvalidValue(f"{param}: {error.problem}", param=param)
        case ModelFailed():
            return BackendFailed(f"the model {model} failed: {error}")
        case _:
            return from_backend(error, params)


def from_validation(errors: Sequence[Any]) -> ApiError:
    """Turn pydantic's findings into ours; the first one is reported."""
    first = errors[0]
    source, *rest = first["loc"] or ("body",)
    where = [str(part) for part in (rest if source in ("body", "query") else first["loc"])]
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
