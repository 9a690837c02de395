"""Errors as text, for callers to which Triton would deliver them without their code or not at all."""

from python_backend.errors import RequestError

CODES = ("INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "CANCELLED", "INTERNAL")


def to_text(error: BaseException) -> str:
    """Return the Triton error code and the message in one line."""
    if isinstance(error, RequestError):
        return f"{error.triton_code} {error}"
    return f"INTERNAL internal error: {type(error).__name__}: {error}"


def from_text(text: str) -> RequestError:
    """Return the error that `to_text` wrote; any other text is the message of an internal one."""
    code, _, message = text.partition(" ")
    if code not in CODES:
        return RequestError(text)
    error = RequestError(message)
    error.triton_code = code
    return error
