"""A server for the time of a measurement."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer
from rich.console import Console

from server.process import Child


@dataclass(frozen=True)
class Running:
    """Where the server listens.

    Attributes:
        grpc: host and port of Triton's gRPC end point.
        gateway: URL of the gateway, empty without one.
        pid: of the launcher, whose descendants are all processes of the server; `None` where it ran before.
    """

    grpc: str
    gateway: str = ""
    pid: int | None = None


@contextmanager
def started(console: Console, *options: str, grpc_port: str = "", gateway: bool = True) -> Iterator[Running]:
    """Start a server on free ports, give its addresses, and stop it.

    Args:
        console: shows its log.
        options: further ones of `python -m server`.
        grpc_port: of Triton; a free one by default.
        gateway: run the gateway too.

    Raises:
        typer.Exit: it did not become ready.
    """
    grpc, http, metrics, web = grpc_port or free_port(), free_port(), free_port(), free_port()
    ports = ["--triton-grpc-port", grpc, "--triton-http-port", http, "--triton-metrics-port", metrics, "--port", web]
    up = threading.Event()

    def read(line: str) -> None:
        if not up.is_set():
            console.print(line, markup=False, highlight=False)
        if "ready after" in line:
            up.set()

    command = [sys.executable, "-m", "server", *ports, *options, *([] if gateway else ["--no-gateway"])]
    server = Child(command, os.environ, read)
    try:
        while not up.wait(0.2):
            if server.exit_code is not None:
                raise typer.Exit(server.exit_code or 1)
        yield Running(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{web}" if gateway else "", server.pid)
    finally:
        server.stop(grace=20)


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def answers(address: str) -> bool:
    """Tell whether something listens at host and port `address`."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
