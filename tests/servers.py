"""Start the project's server the way a user does, on free ports, and stop it again."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tritonclient.grpc as grpcclient

from server.process import ProcessInfo, processes
from server.shared_memory import FOLDER

ROOT = Path(__file__).resolve().parent.parent


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@dataclass
class Server:
    """A running `python -m server`."""

    process: subprocess.Popen[str]
    gateway: int
    http: int
    grpc: int
    metrics: int
    remembered: tempfile.TemporaryDirectory[str]  # lives as long as this
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    @property
    def http_url(self) -> str:
        return f"127.0.0.1:{self.http}"

    def triton(self) -> grpcclient.InferenceServerClient:
        return grpcclient.InferenceServerClient(self.grpc_url)

    def family(self) -> list[ProcessInfo]:
        """Return the launcher's tritonserver and everything below it."""
        triton = [process for process in processes() if f"--http-port={self.http}" in process.arguments]
        return [process for leader in triton for process in processes() if process.group == leader.pid]

    def stub(self, model: str) -> int:
        """Return the id of the process that runs a Python model."""
        return next(process.pid for process in self.family() if f"{model}_0_0" in process.arguments)

    def shared_memory(self) -> list[Path]:
        """Return this server's files in /dev/shm."""
        return list(FOLDER.glob(f"stepaudio_{self.process.pid}_*"))

    def stop(self, how: signal.Signals = signal.SIGTERM, within: float = 20) -> float:
        """Signal the launcher and return the seconds until it was gone."""
        started = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(within)
        return time.monotonic() - started


def start(
    *options: str,
    ready_line: str = "ready",
    within: float = 300,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start the server with `options` and wait for the line that says it is ready.

    Unless `environment` says otherwise, it remembers no voices of earlier runs.
    """
    remembered = tempfile.TemporaryDirectory(prefix="voices-")
    ports = free_ports(4)
    names = ("--port", "--triton-http-port", "--triton-grpc-port", "--triton-metrics-port")
    flags = [text for name, port in zip(names, ports, strict=True) for text in (name, str(port))]
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *flags, *options],
        cwd=cwd,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "VOICE_CACHE_DIR": remembered.name} | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Server(process, *ports, remembered)
    is_ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.log.append(line.rstrip())
            if ready_line in line.lower():
                is_ready.set()
        is_ready.set()

    threading.Thread(target=read, daemon=True).start()
    # The end of its output comes a moment before the end of the process, so only the line itself tells.
    if not is_ready.wait(within) or not any(ready_line in line.lower() for line in server.log):
        process.kill()
        raise AssertionError("the server did not become ready; its log:\n" + "\n".join(server.log[-60:]))
    return server
