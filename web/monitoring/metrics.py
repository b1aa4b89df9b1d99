"""GET /metrics for Prometheus: the queue, how jobs were answered, what they cost and saved, and the workers.

The counts are read from Redis at each scrape, so that every web process reports the same; the state of a worker is
what it reported a few seconds ago. https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.job import Origin
from jobs.store.job_store import JobStore
from web.auth import admin_required
from web.extensions import catalogue, job_store
from web.limits.rates import count_limiter_errors

bp = Blueprint("metrics", __name__)

PREFIX = "memoaized_"
COSTS = {  # count in Redis: metric, help
    "seconds_spent": ("painting_seconds", "Time spent painting"),
    "seconds_saved": ("saved_painting_seconds", "Painting time saved by answers from memory"),
    "joules_spent": ("painting_energy_joules", "Energy spent painting, as far as it is known"),
    "joules_saved": ("saved_energy_joules", "Energy saved by answers from memory"),
}
WORKER_GAUGES = {  # what a worker reports: metric, help
    "slots": ("worker_slots", "Paintings that a worker can run at once"),
    "busy": ("worker_busy_slots", "Paintings that a worker is running"),
}
PAINTER_GAUGES = {  # what each of its painters reports: metric, help, factor to the metric's unit
    "batch_size": ("painter_batch_size", "Paintings in the last step", 1),
    "step_ms": ("painter_step_seconds", "Duration of the last step", 1e-3),
    "gpu_mb": ("painter_gpu_memory_bytes", "GPU memory in use", 1e6),
}


@bp.get("/metrics")
@admin_required
def metrics() -> Response:
    """All metrics as text; 503 as a problem document when the queue does not respond."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(QueueCollector(job_store(), list(catalogue().models())))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class QueueCollector(Collector):
    """The metrics of one scrape."""

    def __init__(self, job_store: JobStore, models: list[str]) -> None:
        self.waiting = {model: job_store.statistics.waiting(model) for model in models}
        self.counts, self.workers = job_store.statistics.counts(), job_store.heartbeats.workers()

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        depths = ((model, depth) for model, (depth, _) in self.waiting.items())
        yield gauge("queue_depth", "Paintings that are waiting", "model", depths)
        ages = ((model, age) for model, (_, age) in self.waiting.items())
        yield gauge("queue_age_seconds", "How long the oldest waiting painting has waited", "model", ages)
        jobs = CounterMetricFamily(PREFIX + "jobs", "Jobs, by the origin of their picture", labels=["origin"])
        for origin in Origin:
            jobs.add_metric([str(origin)], self.counts[origin])
        yield jobs
        for count, (name, text) in COSTS.items():
            yield CounterMetricFamily(PREFIX + name, text, value=self.counts[count])
        text = "Requests let through uncounted because the rate limiter's Redis did not respond"
        yield CounterMetricFamily(PREFIX + "rate_limiter_errors", text, value=count_limiter_errors())
        yield GaugeMetricFamily(PREFIX + "workers", "Running workers", value=len(self.workers))
        yield from self.worker_metrics()

    def worker_metrics(self) -> Iterator[Metric]:
        """The metrics of each worker, from its latest report."""
        for field, (name, text) in WORKER_GAUGES.items():
            values = ((worker, report.get(field, 0)) for worker, report in self.workers.items())
            yield gauge(name, text, "worker", values)
        ended = CounterMetricFamily(PREFIX + "worker_paintings", "Paintings that ended", labels=["worker", "outcome"])
        energy = CounterMetricFamily(PREFIX + "worker_energy_joules", "Energy spent painting", labels=["worker"])
        for worker, report in self.workers.items():
            energy.add_metric([worker], report.get("joules", 0.0))
            for outcome, count in report.get("ended", {}).items():
                ended.add_metric([worker, outcome], count)
        yield from (ended, energy)
        for field, (name, text, factor) in PAINTER_GAUGES.items():
            family = GaugeMetricFamily(PREFIX + name, text, labels=["worker", "model"])
            for worker, report in self.workers.items():
                for model, state in report.get("painters", {}).items():
                    family.add_metric([worker, model], state.get(field, 0) * factor)
            yield family


def gauge(name: str, text: str, label: str, values: Iterable[tuple[str, Any]]) -> GaugeMetricFamily:
    """A gauge with one label."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for label_value, value in values:
        family.add_metric([label_value], value)
    return family
