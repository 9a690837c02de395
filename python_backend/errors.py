"""What can go wrong with a request, in the terms a caller can act on."""


class RequestError(Exception):
    """A request that cannot be served; the message says why and what to do."""

    triton_code = "INTERNAL"


class InvalidInput(RequestError):
    """One input of the request is missing or unusable; the message starts with its name."""

    triton_code = "INVALID_ARG"

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field = field


class Unavailable(RequestError):
    """The model cannot take the request now; the caller may try again."""

    triton_code = "UNAVAILABLE"


class Cancelled(RequestError):
    """The caller withdrew the request."""

    triton_code = "CANCELLED"


class NotFound(RequestError):
    """What the request refers to is not there, or no longer."""

    triton_code = "NOT_FOUND"
