"""Noticing dead model processes, and how often to try again.

Triton 2.51 neither restarts a dead Python stub nor reports it: live, ready and model-ready all stay 200. Requests that
the dead process had taken but not answered are never answered.
"""

import re
import time
from collections import Counter
from fnmatch import fnmatch

from server.backends import STUB
from server.control import Control
from server.process import processes

INSTANCE = re.compile(r"(?P<model>.+)_\d+_\d+")
ENGINES = ("llm_*", "flow", "*_stream")
"""Models that keep requests while they compute: their callers would wait for ever, so the server is restarted."""
UNLOAD_TIMEOUT = 3.0
"""A dead model without requests is unloaded within about a second; one that had any stays `UNLOADING` for ever."""
LOAD_TIMEOUT = 60.0


def is_engine(model: str) -> bool:
    """Tell whether `model` keeps requests of several callers at once."""
    return any(fnmatch(model, pattern) for pattern in ENGINES)


class StubWatch:
    """The model processes of one tritonserver, whose process group is `group`."""

    def __init__(self, group: int):
        self._group = group
        self._known = self._running()

    def lost(self) -> set[str]:
        """Return the models that have fewer processes than at the last call: one that was replaced is not missed."""
        running = self._running()
        lost = Counter(self._known.values()) - Counter(running.values())
        self._known = running
        return set(lost)

    def _running(self) -> dict[int, str]:
        found = {}
        for process in processes():
            if process.group == self._group and process.arguments[0].endswith(STUB):
                for argument in process.arguments[2:]:
                    if (instance := INSTANCE.fullmatch(argument)) is not None:
                        found[process.pid] = instance["model"]
        return found


def reload(control: Control, model: str) -> bool:
    """Replace the dead process of stateless `model`; `False` means that only a restart of the server helps.

    A bare load of a model whose files have not changed does nothing, hence the unload. Triton never finishes it when
    the process died with requests: those it was computing have failed by then, those it kept for later still wait.

    Raises:
        TritonError: Triton refused; a restart is needed too.
    """
    control.unload(model)
    deadline = time.monotonic() + UNLOAD_TIMEOUT
    while control.state(model) == "UNLOADING":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    control.load(model, LOAD_TIMEOUT)
    return control.ready(model)


class GiveUp(Exception):
    """Something fails again and again; the message says what."""


class Patience:
    """How long to wait before the next try of something that failed, and when to try no more.

    Args:
        tries: restarts in a row that are tried.
        calm: seconds it must have run after a restart for the next failure not to count as one in a row.
    """

    def __init__(self, tries: int, calm: float = 10.0):
        self._tries = tries
        self._calm = calm
        self._failures = 0
        self._up_since: float | None = None

    def recovered(self, now: float) -> None:
        """Note that a restart succeeded at time `now`."""
        self._up_since = now

    def failed(self, what: str, now: float) -> float:
        """Count a failure at time `now` and return the seconds to wait: 0, 1, 2, then 4 each time.

        Raises:
            GiveUp: that was one too many.
        """
        if self._up_since is not None and now - self._up_since > self._calm:
            self._failures = 0
        self._up_since = None
        self._failures += 1
        if self._failures > self._tries:
            raise GiveUp(f"{what}; given up after {self._tries} restarts in a row")
        return float((0, 1, 2, 4)[min(self._failures, 4) - 1])
