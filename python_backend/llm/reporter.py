"""The engine's numbers as Triton metrics, beside Triton's own, which do not see past `execute`."""

import os
import threading
from collections import Counter, deque
from typing import Any

import triton_python_backend_utils as pb_utils

from python_backend.llm.engine import Engine

PERIOD_SECONDS = 1.0
GAUGES = {
    "running": "Requests in the batch",
    "waiting": "Requests in the queue",
    "kv_bytes": "Bytes of the key/value cache",
    "prefix_bytes": "Bytes of kept prompt beginnings",
}
COUNTERS = {
    "tokens": "Audio tokens handed out",
    "prefix_hits": "Prompts whose beginning was kept",
    "prefix_misses": "Prompts whose beginning had to be computed",
}
FIRST_TOKEN_BUCKETS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]
TOKEN_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]


class MetricsReporter:
    """A thread that copies to Triton once a second what has changed.

    Each update is a message that the server waits to see taken. Triton 2.51 kills a process that looks stuck when the
    server stops; in the middle of such a message, it would then wait for ever. So an idle model sends none.

    Args:
        model: value of the metrics' label `model`.
    """

    def __init__(self, engine: Engine, model: str):
        self._engine = engine
        self._labels = {"model": model}
        self._families: list[Any] = []  # a metric dies with its family
        self._gauges = {name: self._metric(name, text, pb_utils.MetricFamily.GAUGE) for name, text in GAUGES.items()}
        self._counters = {
            name: self._metric(f"{name}_total", text, pb_utils.MetricFamily.COUNTER) for name, text in COUNTERS.items()
        }
        self._ended_family = self._family("requests_total", "Requests answered, by how", pb_utils.MetricFamily.COUNTER)
        self._ended = {
            reason: self._ended_family.Metric(labels={**self._labels, "end": reason})
            for reason in ("stop", "length", "error")
        }
        self._first_token = self._histogram("first_token_seconds", "Arrival to first token", FIRST_TOKEN_BUCKETS)
        self._token = self._histogram("token_seconds", "Mean time between tokens of a request", TOKEN_BUCKETS)
        self._sent: Counter[str] = Counter()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        self._thread.join()

    def _family(self, name: str, text: str, kind: Any) -> Any:
        family = pb_utils.MetricFamily(name=f"step_audio_llm_{name}", description=text, kind=kind)
        self._families.append(family)
        return family

    def _metric(self, name: str, text: str, kind: Any) -> Any:
        return self._family(name, text, kind).Metric(labels=self._labels)

    def _histogram(self, name: str, text: str, buckets: list[float]) -> Any:
        return self._family(name, text, pb_utils.MetricFamily.HISTOGRAM).Metric(labels=self._labels, buckets=buckets)

    def _run(self) -> None:
        server = os.getppid()
        while not self._closing.wait(PERIOD_SECONDS):
            if os.getppid() != server:  # it died: an update would wait for ever and keep this process alive
                return
            self._report()

    def _report(self) -> None:
        stats, measures = self._engine.stats(), self._engine.measures
        for name, gauge in self._gauges.items():
            if self._changed(name, stats[name]):
                gauge.set(stats[name])
        for name, counter in self._counters.items():
            if grown := self._changed(name, stats[name]):
                counter.increment(grown)
        for reason, counter in self._ended.items():
            if grown := self._changed(reason, measures.ended[reason]):
                counter.increment(grown)
        _observe(self._first_token, measures.first_token_seconds)
        _observe(self._token, measures.token_seconds)

    def _changed(self, name: str, value: int) -> int:
        """Return how much `value` differs from when it was last asked about."""
        difference = value - self._sent[name]
        self._sent[name] = value
        return difference


def _observe(histogram: Any, values: deque[float]) -> None:
    while values:
        histogram.observe(values.popleft())
