"""The gateway's process."""

import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping

from server.console import say
from server.process import Child
from server.settings import Settings
from server.triton import POLL, Interrupted, StartFailed

START_TIMEOUT = 60.0
DRAIN = 4.0
"""Seconds the gateway gets to finish the requests under way."""


class Gateway:
    """`python -m gateway`, from its start to its end; `start` may be called again once it has ended."""

    def __init__(self, settings: Settings, environment: Mapping[str, str], stop: threading.Event):
        self._url = settings.url
        self._environment = {
            **environment,
            "GATEWAY_HOST": settings.host,
            "GATEWAY_PORT": str(settings.port),
            "GATEWAY_TRITON_URL": f"{settings.triton_client_host}:{settings.grpc_port}",
        }
        self._stop = stop
        self._child: Child | None = None

    @property
    def exit_code(self) -> int | None:
        """What it ended with, `None` while it runs."""
        return self._child.exit_code if self._child else None

    def start(self) -> None:
        """Run it and return when it reports itself healthy.

        Raises:
            StartFailed: it ended, or did not become healthy in time; nothing is left running.
            Interrupted: the user asked to stop; the process may still be running.
        """
        command = [sys.executable, "-m", "gateway"]
        self._child = Child(command, self._environment, lambda line: say(line, "gateway"))
        for _ in range(round(START_TIMEOUT / POLL)):
            if self._stop.wait(POLL):
                raise Interrupted
            if self._child.exit_code is not None:
                raise StartFailed(f"the gateway ended with code {self._child.exit_code}; its last lines above say why")
            if self._healthy():
                return
        self._child.kill()
        raise StartFailed(f"the gateway is not healthy after {START_TIMEOUT:.0f} s")

    def stop(self, abort: Callable[[], bool]) -> None:
        """End it after the requests under way, which get a few seconds."""
        if self._child is not None:
            self._child.stop(DRAIN, abort)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/healthz", timeout=2) as answer:  # noqa: S310 - http only
                return bool(answer.status == 200)
        except OSError:
            return False
