"""What the server counts, for Prometheus; labels have few values and never hold what was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own; the folder of several workers
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The server's own registry of metrics; one a worker, summed up where there are several."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        where: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "llmops_requests", "Requests by route and status", ["route", "status"], **where
        )
        self.seconds = Histogram(
            "llmops_request_seconds", "Time to answer", ["route"], buckets=SECONDS, **where
        )
        self.answers = Counter(
            "llmops_answers",
            "Answers by model, version and what the policy did",
            ["model", "version", "action"],
            **where,
        )
        self.tokens = Counter(
            "llmops_tokens", "Tokens read and written", ["model", "version", "way"], **where
        )
        self.answering = Gauge(
            "llmops_answering", "Requests in work", multiprocess_mode="livesum", **where
        )
        self.batch_rows = Histogram(
            "llmops_batch_rows",
            "Questions answered together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            **where,
        )
        self.log_failures = Counter(
            "llmops_log_failures", "Records that the log could not take", **where
        )
        self._request_children: dict[tuple[str, int], Any] = {}
        self._answer_children: dict[tuple[str, int | None, str], tuple[Any, Any, Any]] = {}
        self._second_children: dict[str, Any] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = (route, status)
        counter = self._request_children.get(key)
        if counter is None:
            counter = self._request_children[key] = self.requests.labels(route, str(status))
            self._second_children.setdefault(route, self.seconds.labels(route))
        counter.inc()
        self._second_children[route].observe(seconds)

    def answer(
        self, model: str, version: int | None, action: str, tokens: Mapping[str, int]
    ) -> None:
        """Count an answer and its tokens."""
        key = (model, version, action)
        found = self._answer_children.get(key)
        if found is None:
            named = (model, "" if version is None else str(version))
            found = self._answer_children[key] = (
                self.answers.labels(*named, action),
                self.tokens.labels(*named, "prompt"),
                self.tokens.labels(*named, "output"),
            )
        found[0].inc()
        found[1].inc(tokens["prompt"])
        found[2].inc(tokens["output"])

    def page(self) -> bytes:
        """Return the page that Prometheus reads, of all workers."""
        import os

        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if FIGURES not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
