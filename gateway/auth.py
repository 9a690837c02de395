"""Who may use the service: holders of one of the configured keys."""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ApiError, InvalidKey, MissingKey, response

OPEN_PATHS = frozenset({"/healthz", "/health", "/livez", "/docs", "/redoc", "/openapi.json"})


class BearerAuth:
    """Lets requests in whose `Authorization: Bearer` key is one of `keys`; the rest of the request stays unread."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]):
        self._app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        refusal = None
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            refusal = self.refusal(Headers(scope=scope).get("authorization", ""))
        if refusal:
            await response(refusal)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def refusal(self, authorization: str) -> ApiError | None:
        """Return why a request with this header is not let in, `None` where it is."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return MissingKey("an API key is needed: send the header `Authorization: Bearer <key>`")
        sent = sha256(key.strip().encode("latin-1")).digest()  # as the bytes came: header text is Latin-1
        # Every key is compared, and digests are of one length, so that timing tells nothing.
        if not sum(compare_digest(sent, known) for known in self._digests):
            return InvalidKey("this API key is not valid here")
        return None
