"""What operators watch, in Prometheus' text form."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0)


class Metrics:
    """Counters and histograms of one application."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "gateway_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "gateway_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_audio = Histogram(
            "gateway_first_audio_seconds",
            "Time from a speech request to its first audio.",
            ["mode"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._real_time_factor = Histogram(
            "gateway_real_time_factor",
            "Time to make speech over its length; below 1 is faster than speaking.",
            ["mode"],
            buckets=_FACTORS,
            registry=registry,
        )
        self._stall_seconds = Histogram(
            "gateway_stream_stall_seconds",
            "How long a listener stands still in all who plays a stream from its first audio; 0 is unbroken.",
            ["mode"],
            buckets=(0.0, 0.02, *_SECONDS[3:11]),
            registry=registry,
        )
        self._audio_seconds = Counter("gateway_audio_seconds", "Speech made.", ["mode"], registry=registry)
        self._transcription_seconds = Histogram(
            "gateway_transcription_seconds",
            "Time from a recording, decoded, to its last word.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._transcribed_seconds = Counter("gateway_transcribed_seconds", "Audio transcribed.", registry=registry)
        self._stage_seconds = Histogram(
            "gateway_stage_seconds",
            "Time in each stage of a speech request; `queue` is the wait for a permit.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show `read()` as the gauge `gateway_<name>`."""
        Gauge(f"gateway_{name}", what, registry=self._registry).set_function(read)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(route).observe(seconds)

    def speech(self, mode: str, spent: float, audio: float, first_audio: float, stage_ms: Mapping[str, float]) -> None:
        """Count speech made: seconds of work, seconds of audio, seconds to its first sample."""
        self._first_audio.labels(mode).observe(first_audio)
        self._audio_seconds.labels(mode).inc(audio)
        if audio:
            self._real_time_factor.labels(mode).observe(spent / audio)
        for stage, milliseconds in stage_ms.items():
            self._stage_seconds.labels(stage).observe(milliseconds / 1000)

    def stall(self, mode: str, seconds: float) -> None:
        """Count a stream that kept its listener waiting for `seconds` after it had begun."""
        self._stall_seconds.labels(mode).observe(seconds)

    def transcription(self, spent: float, audio: float) -> None:
        """Count a recording transcribed: seconds of work, seconds of audio."""
        self._transcription_seconds.observe(spent)
        self._transcribed_seconds.inc(audio)

    def text(self) -> bytes:
        """Return everything in Prometheus' exposition format."""
        return generate_latest(self._registry)
