"""A model's own numbers as Triton metrics, beside Triton's, which do not see past `execute`."""

import os
import threading
from abc import ABC, abstractmethod
from typing import Any

import triton_python_backend_utils as pb_utils

PERIOD_SECONDS = 1.0


class MetricsReporter(ABC):
    """A thread that copies to Triton once a second what has changed.

    Each update is a message that the server waits to see taken. Triton 2.51 kills a process that looks stuck when the
    server stops; in the middle of such a message, it would then wait for ever. So an idle model sends none.

    Args:
        prefix: what the names of the metrics begin with.
    """

    def __init__(self, prefix: str):
        self._prefix = prefix
        self._families: list[Any] = []  # a metric dies with its family
        self._sent: dict[Any, float] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        self._thread.join()

    @abstractmethod
    def report(self) -> None:
        """Bring every metric up to date, by `show` and `grow`."""

    def family(self, name: str, text: str, kind: Any) -> Any:
        """Make a family of metrics that lives as long as the reporter; `kind` is one of Triton's."""
        family = pb_utils.MetricFamily(name=f"{self._prefix}_{name}", description=text, kind=kind)
        self._families.append(family)
        return family

    def show(self, gauge: Any, value: float) -> None:
        """Set a gauge to `value`."""
        if self._sent.get(gauge, 0) != value:
            gauge.set(value)
            self._sent[gauge] = value

    def grow(self, counter: Any, total: float) -> None:
        """Bring a counter to where `total` stands; one smaller than before has begun anew."""
        before = self._sent.get(counter, 0)
        if grown := total - before if total >= before else total:
            counter.increment(grown)
        self._sent[counter] = total

    def _run(self) -> None:
        server = os.getppid()
        while not self._closing.wait(PERIOD_SECONDS):
            if os.getppid() != server:  # it died: an update would wait for ever and keep this process alive
                return
            self.report()
