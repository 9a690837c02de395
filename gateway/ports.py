"""The port a request arrived on: a few paths belong to several APIs, and clients of each expect answers of their own.

Everything is served on every port the gateway listens on. `GATEWAY_PORTS=8003,7861,7202,7205,7206,7207` opens the ports
that clients of the neighbouring APIs use; only the paths that collide look at them.
"""

from typing import Annotated

from fastapi import Depends, Request

VOXCPM = 7861
EMBEDDINGS = 7202
RECOGNITION = 7205
SPEECH = 7206
CHAT = 7207


def arrived_on(request: Request) -> int | None:
    """Return the local port of the connection; not what its `Host` header says, which proxies and clients choose."""
    _, port = request.scope.get("server") or (None, None)
    return port


Port = Annotated[int | None, Depends(arrived_on)]
"""A route's parameter of this type holds the port its request arrived on."""
