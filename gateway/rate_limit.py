"""So many requests a minute from each caller, and headers that say how many are left."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import OPEN_PATHS
from gateway.errors import RateLimited, response

_SECONDS = 60.0
_MOST_CALLERS = 10_000


@dataclass
class Bucket:
    """A caller's requests: `left` of them at the time `at`, and more by the moment."""

    left: float
    at: float


class RateLimit:
    """Lets each caller make `per_minute` requests at once and as many again each minute (a token bucket).

    Args:
        per_minute: requests.
        by_key: whether callers are told apart by their key, which must have been checked; else by their address.
    """

    def __init__(self, app: ASGIApp, per_minute: int, *, by_key: bool):
        self._app = app
        self._per_minute = per_minute
        self._by_key = by_key
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        bucket = self._bucket(self._caller(scope))
        granted = bucket.left >= 1
        if granted:
            bucket.left -= 1
        headers = self._headers(bucket)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        if granted:
            await self._app(scope, receive, send_with_headers)
        else:
            wait = math.ceil((1 - bucket.left) * _SECONDS / self._per_minute)
            refusal = RateLimited(f"more than {self._per_minute} requests a minute", retry_after=wait)
            await response(refusal)(scope, receive, send_with_headers)

    def _caller(self, scope: Scope) -> str:
        host, _ = scope.get("client") or ("", 0)
        return Headers(scope=scope)["authorization"] if self._by_key else host

    def _bucket(self, caller: str) -> Bucket:
        """Return the caller's bucket, filled for the time gone by; those long unused are dropped."""
        now = time.monotonic()
        bucket = self._buckets.setdefault(caller, Bucket(self._per_minute, now))
        bucket.left = min(self._per_minute, bucket.left + (now - bucket.at) * self._per_minute / _SECONDS)
        bucket.at = now
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return bucket

    def _headers(self, bucket: Bucket) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self._per_minute),
            "x-ratelimit-remaining-requests": str(int(bucket.left)),
            "x-ratelimit-reset-requests": duration((self._per_minute - bucket.left) * _SECONDS / self._per_minute),
        }


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: `12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 10) / 10:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"
