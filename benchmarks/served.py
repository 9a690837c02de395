"""The whole system on free ports for the time of a measurement."""

import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.process import Child


@dataclass(frozen=True)
class Addresses:
    """Where a running system listens: the gateway's port and `host:port` of Triton's gRPC end point."""

    gateway: int
    triton: str


@contextmanager
def served(repository: Path, settings: Mapping[str, str], *flags: str) -> Iterator[Addresses]:
    """Run `python -m server` on `repository` with `settings` in its environment and further `flags`.

    Raises:
        RuntimeError: it ended before it was ready; holds its last words.
    """
    gateway, http, grpc, metrics = _free_ports(4)
    options = {
        "--model-repository": repository,
        "--first-words": repository / "first-words.wav",
        "--port": gateway,
        "--triton-http-port": http,
        "--triton-grpc-port": grpc,
        "--triton-metrics-port": metrics,
    }
    command = [sys.executable, "-m", "server", *(str(word) for pair in options.items() for word in pair), *flags]
    said: list[str] = []
    ready = threading.Event()

    def read(line: str) -> None:
        said.append(line)
        if "ready after" in line:
            ready.set()

    child = Child(command, {**os.environ, **settings}, read)
    try:
        while not ready.wait(0.1):
            if child.exit_code is not None:
                raise RuntimeError("the server ended:\n" + "\n".join(said[-20:]))
        yield Addresses(gateway, f"127.0.0.1:{grpc}")
    finally:
        child.stop(grace=20)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
