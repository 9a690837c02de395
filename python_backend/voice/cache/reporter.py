"""The cache's numbers as Triton metrics."""

import os
import threading
from typing import Any

import triton_python_backend_utils as pb_utils

from python_backend.voice.cache.voice_cache import VoiceCache

PERIOD_SECONDS = 1.0
COUNTERS = {"hits": "Voices answered from the cache", "misses": "Voices encoded"}
GAUGES = {"entries": "Voices kept", "bytes": "Bytes of the voices kept"}


class MetricsReporter:
    """A thread that copies the counts to Triton once a second: each update is a message to the server."""

    def __init__(self, cache: VoiceCache):
        self._cache = cache
        self._families: list[Any] = []  # a metric dies with its family
        counter, gauge = pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE
        self._counters = {
            name: self._family(f"{name}_total", text, counter).Metric() for name, text in COUNTERS.items()
        }
        self._gauges = {name: self._family(name, text, gauge) for name, text in GAUGES.items()}
        self._held = {
            (store, name): family.Metric(labels={"store": store})
            for store, held in cache.stats()["stores"].items()
            for name, family in self._gauges.items()
            if name in held
        }
        self._reported = dict.fromkeys(COUNTERS, 0)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        self._thread.join()

    def _family(self, name: str, text: str, kind: Any) -> Any:
        family = pb_utils.MetricFamily(name=f"step_audio_voice_cache_{name}", description=text, kind=kind)
        self._families.append(family)
        return family

    def _run(self) -> None:
        server = os.getppid()
        while not self._closing.wait(PERIOD_SECONDS):
            if os.getppid() != server:  # it died: an update would wait for ever and keep this process alive
                return
            self._report()

    def _report(self) -> None:
        stats = self._cache.stats()
        for name, counter in self._counters.items():
            now, before = stats[name], self._reported[name]
            counter.increment(now - before if now >= before else now)  # smaller after a reset
            self._reported[name] = now
        for (store, name), gauge in self._held.items():
            gauge.set(stats["stores"][store].get(name, 0))
