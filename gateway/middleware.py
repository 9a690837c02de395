"""What happens around every request: an id, a clock, a body limit and a last resort."""

import logging
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import ApiError, PayloadTooLarge, response
from gateway.metrics import Metrics

log = logging.getLogger("gateway.access")

OPENAI_VERSION = "2020-10-01"


class RequestContext:
    """Gives every response its id and time, logs and counts it, and turns a crash into a 500 envelope."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = "req_" + secrets.token_hex(16)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-version"] = OPENAI_VERSION
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s failed", request_id)
            if status:
                raise
            await response(ApiError("something went wrong on the server"))(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.request(scope["method"], route, status, seconds)
            log.info(
                "%s %s %s",
                scope["method"],
                scope["path"],
                status or "gone",
                extra={
                    "request_id": request_id,
                    "client_request_id": Headers(scope=scope).get("x-client-request-id"),
                    "milliseconds": round(seconds * 1000, 1),
                },
            )


class BodyLimit:
    """Refuses bodies over `limit` bytes, announced or not, without reading them to the end."""

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        too_large = announced.isdigit() and int(announced) > self._limit
        received = 0

        async def receive_counted() -> Message:  # raises to the route, which knows in what form its callers are refused
            nonlocal received
            message = {} if too_large else await receive()
            received += len(message.get("body", b""))
            if too_large or received > self._limit:
                raise PayloadTooLarge(f"the body is larger than {self._limit} bytes")
            return message

        await self._app(scope, receive_counted, send)
