"""One tritonserver process: its command line, its environment, its start and its end."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from server.console import say
from server.control import Control
from server.locate import Home
from server.process import Child
from server.settings import ROOT, Settings
from server.threads import thread_budget, usable_cores
from server.triton_log import LoadProgress, worth_showing

EXIT_TIMEOUT = 6
"""Seconds tritonserver gives requests under way when it is asked to end."""
POLL = 0.1
CALLS_AT_ONCE = 64
"""Of one Python model to others, its answers on their way included; 32 unless told otherwise, the rest waits unseen.

Each of the 48 streams that step_audio_editx_stream takes may wait for its first token, and the others go on meanwhile.
"""


class Interrupted(Exception):
    """The user asked to stop."""


class StartFailed(Exception):
    """A process did not come up; the message says why."""


def command(
    settings: Settings, home: Home, models: Sequence[str], backends: Path, shared_memory_prefix: str
) -> list[str]:
    """Return the command line that serves `models` of the repository."""
    return [
        str(home.server),
        f"--model-repository={settings.model_repository.absolute()}",
        f"--backend-directory={backends}",
        # Configurations are complete: guessing them would import every model twice.
        "--disable-auto-complete-config",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        f"--http-address={settings.triton_host}",
        f"--grpc-address={settings.triton_host}",
        f"--http-port={settings.http_port}",
        f"--grpc-port={settings.grpc_port}",
        f"--metrics-port={settings.metrics_port}",
        f"--exit-timeout-secs={EXIT_TIMEOUT}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
        f"--backend-config=python,thread-pool-size={CALLS_AT_ONCE}",
        *(["--log-verbose=1"] if settings.log_verbose else []),
    ]


def environment(home: Home, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of tritonserver, which its model processes inherit."""
    variables = dict(inherited)

    def prepend(name: str, *paths: Path | str) -> None:
        variables[name] = os.pathsep.join([*map(str, paths), *filter(None, [variables.get(name)])])

    # The stub finds its Python environment through the first `python3` on PATH and through nothing else.
    prepend("PATH", Path(sys.executable).parent)
    prepend("PYTHONPATH", ROOT)
    if home.libraries:
        prepend("LD_LIBRARY_PATH", *home.libraries)
    # Left to itself, ONNX Runtime 1.31 keeps a database of its use in the home folder and sends it to its maker.
    variables.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return variables | thread_budget(usable_cores(variables))


class TritonServer:
    """A tritonserver from its start to its end; `start` may be called again after `kill`.

    Args:
        settings: addresses and time limits.
        command: what to run.
        environment: its environment.
        models: the models it loads.
        stop: set when the user asks to stop.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        environment: Mapping[str, str],
        models: Sequence[str],
        stop: threading.Event,
    ):
        self.control = Control(settings.triton_client_host, settings.http_port)
        self._settings = settings
        self._command = command
        self._environment = environment
        self._models = models
        self._stop = stop
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process and process group, `None` before the first start."""
        return self._child.pid if self._child else None

    @property
    def exit_code(self) -> int | None:
        """What it ended with, `None` while it runs."""
        return self._child.exit_code if self._child else None

    def start(self) -> None:
        """Run it and return when every model takes requests.

        Raises:
            StartFailed: it ended or a model failed to load; nothing is left running.
            Interrupted: the user asked to stop; the process may still be running.
        """
        progress = LoadProgress(list(self._models))
        started = time.monotonic()
        self._child = Child(self._command, self._environment, self._reader(progress, started))
        deadline = started + self._settings.load_timeout
        while not self._ready():
            if self._stop.wait(POLL):
                raise Interrupted
            if self._child.exit_code is not None:
                self.kill()  # its model processes may still be there
                raise StartFailed(self._reason(progress))
            if time.monotonic() > deadline:
                self.kill()
                waiting = ", ".join(progress.waiting)
                raise StartFailed(f"not ready after {self._settings.load_timeout:.0f} s, still loading: {waiting}")

    def stop(self, abort: Callable[[], bool]) -> None:
        """End it in order: requests under way are answered, unless they take longer than its exit timeout."""
        if self._child is not None:
            # A server that is still loading has nothing to finish and would not listen before it is done.
            self._child.stop(EXIT_TIMEOUT + 2, lambda: abort() or not self._served)

    def kill(self) -> None:
        """End it and its model processes at once; whoever waits for an answer sees the connection close."""
        if self._child is not None:
            self._child.kill()

    _served = False

    def _ready(self) -> bool:
        self._served = self.control.live() and all(self.control.ready(model) for model in self._models)
        return self._served

    def _reader(self, progress: LoadProgress, started: float) -> Callable[[str], None]:
        def read(line: str) -> None:
            if (model := progress.read(line)) is not None:
                waiting = f", loading: {', '.join(progress.waiting)}" if progress.waiting else ""
                say(f"{model} loaded after {time.monotonic() - started:.1f} s{waiting}")
            if self._settings.log_verbose or worth_showing(line):
                say(line, "triton")

        return read

    def _reason(self, progress: LoadProgress) -> str:
        if progress.failures:
            return "\n".join(f"{model} failed to load: {reason}" for model, reason in progress.failures.items())
        return f"tritonserver ended with code {self.exit_code}; its last lines above say why"
