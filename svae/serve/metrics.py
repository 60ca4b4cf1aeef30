"""What `GET /metrics` tells, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "svae_requests",
            "Requests that were answered, by path and status",
            ["path", "status"],
            registry=self.registry,
        )
        self.first_audio = Histogram(
            "svae_first_audio_seconds",
            "From a request to its first samples",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.speech = Counter(
            "svae_speech_seconds", "Seconds of speech that were given out", registry=self.registry
        )
        self.gone = Counter(
            "svae_clients_gone", "Clients that went before all was said", registry=self.registry
        )

    def answered(self, path: str, status: int) -> None:
        """Count an answer."""
        self._answers.labels(path, str(status)).inc()

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Show a number that is looked up whenever somebody asks."""
        Gauge(name, words, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return all numbers."""
        return generate_latest(self.registry)
