"""The cache's numbers as Triton metrics."""

import triton_python_backend_utils as pb_utils

from python_backend.metrics import MetricsReporter
from python_backend.voice.cache.voice_cache import VoiceCache

COUNTERS = {"hits": "Voices answered from the cache", "misses": "Voices encoded"}
GAUGES = {"entries": "Voices kept", "bytes": "Bytes of the voices kept"}


class CacheReporter(MetricsReporter):
    """Reports hits, misses and what each store holds."""

    def __init__(self, cache: VoiceCache):
        super().__init__("step_audio_voice_cache")
        self._cache = cache
        counter, gauge = pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE
        self._counters = {name: self.family(f"{name}_total", text, counter).Metric() for name, text in COUNTERS.items()}
        gauges = {name: self.family(name, text, gauge) for name, text in GAUGES.items()}
        self._held = {
            (store, name): family.Metric(labels={"store": store})
            for store, held in cache.stats()["stores"].items()
            for name, family in gauges.items()
            if name in held
        }
        self.start()

    def report(self) -> None:
        """See `MetricsReporter`."""
        stats = self._cache.stats()
        for name, counter in self._counters.items():
            self.grow(counter, stats[name])
        for (store, name), gauge in self._held.items():
            self.show(gauge, stats["stores"][store].get(name, 0))
