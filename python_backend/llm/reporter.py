"""The engine's numbers as Triton metrics."""

from collections import deque
from typing import Any

import triton_python_backend_utils as pb_utils

from python_backend.llm.engine import Engine
from python_backend.metrics import MetricsReporter

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


class EngineReporter(MetricsReporter):
    """Reports what one engine does.

    Args:
        model: value of the metrics' label `model`.
    """

    def __init__(self, engine: Engine, model: str):
        super().__init__("step_audio_llm")
        self._engine = engine
        self._labels = {"model": model}
        self._gauges = {name: self._metric(name, text, pb_utils.MetricFamily.GAUGE) for name, text in GAUGES.items()}
        self._counters = {
            name: self._metric(f"{name}_total", text, pb_utils.MetricFamily.COUNTER) for name, text in COUNTERS.items()
        }
        ended = self.family("requests_total", "Requests answered, by how", pb_utils.MetricFamily.COUNTER)
        self._ended = {
            reason: ended.Metric(labels={**self._labels, "end": reason}) for reason in ("stop", "length", "error")
        }
        self._first_token = self._histogram("first_token_seconds", "Arrival to first token", FIRST_TOKEN_BUCKETS)
        self._token = self._histogram("token_seconds", "Mean time between tokens of a request", TOKEN_BUCKETS)
        self.start()

    def report(self) -> None:
        """See `MetricsReporter`."""
        stats, measures = self._engine.stats(), self._engine.measures
        for name, gauge in self._gauges.items():
            self.show(gauge, stats[name])
        for name, counter in self._counters.items():
            self.grow(counter, stats[name])
        for reason, counter in self._ended.items():
            self.grow(counter, measures.ended[reason])
        _observe(self._first_token, measures.first_token_seconds)
        _observe(self._token, measures.token_seconds)

    def _metric(self, name: str, text: str, kind: Any) -> Any:
        return self.family(name, text, kind).Metric(labels=self._labels)

    def _histogram(self, name: str, text: str, buckets: list[float]) -> Any:
        return self.family(name, text, pb_utils.MetricFamily.HISTOGRAM).Metric(labels=self._labels, buckets=buckets)


def _observe(histogram: Any, values: deque[float]) -> None:
    while values:
        histogram.observe(values.popleft())
