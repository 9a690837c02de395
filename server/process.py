"""A child process that dies with this one and is never outlived by children of its own."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_POLL = 0.05
_KILL_TIMEOUT = 5.0


@dataclass(frozen=True)
class ProcessInfo:
    """One line of the process table."""

    pid: int
    group: int
    arguments: tuple[str, ...]


def processes() -> Iterator[ProcessInfo]:
    """Yield every running process of this machine; ended ones that nobody has collected are left out."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in brackets may hold spaces and brackets itself, so count from its end.
            state, _, group, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            arguments = tuple((entry / "cmdline").read_text(errors="replace").split("\0"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if state not in "ZX":
            yield ProcessInfo(int(entry.name), int(group), arguments)


class Child:
    """One program in a process group of its own.

    Call it from the main thread only: the kernel ties the death of a child to the thread that made it.

    Args:
        command: the program and its arguments.
        environment: its whole environment.
        on_line: takes each line of its output, from a thread.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None]):
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # a Ctrl-C in the terminal reaches us alone, and we stop things in order
            preexec_fn=die_with_parent,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._forward, args=(on_line,), daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """What it ended with, `None` while it runs."""
        return self._process.poll()

    def stop(self, grace: float, abort: Callable[[], bool] = lambda: False) -> None:
        """Ask it to end, wait up to `grace` seconds or until `abort`, then kill whatever is left of its group."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.exit_code is None and time.monotonic() < deadline and not abort():
            time.sleep(_POLL)
        self.kill()

    def kill(self) -> None:
        """End it and its group at once, and return when none of them runs any more."""
        deadline = time.monotonic() + _KILL_TIMEOUT
        while time.monotonic() < deadline and any(process.group == self.pid for process in processes()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(_POLL)
        self._process.poll()
        self._reader.join(timeout=1)

    def _forward(self, on_line: Callable[[str], None]) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            on_line(line.rstrip("\n"))
