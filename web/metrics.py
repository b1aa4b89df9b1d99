"""GET /metrics for Prometheus: what waits, what was answered how, what it cost and saved, and how workers do.

Read off the board at each scrape, so that any number of web processes say the same; what workers do is what they
said of themselves a few seconds ago. https://prometheus.io/docs/instrumenting/exposition_formats/
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

from .auth import for_admins
from .limits import unlimited
from .services import catalogue, job_store

bp = Blueprint("metrics", __name__)

PREFIX = "memoaized_"
COSTS = {
    "seconds_spent": "Seconds of painting",
    "seconds_saved": "Seconds of painting that answers from memory saved",
    "joules_spent": "Joules of painting, as far as they are known",
    "joules_saved": "Joules of painting that answers from memory saved",
}
WORKER = {  # what a worker says of itself
    "slots": "Paintings that it can have under way",
    "busy": "Paintings that it has under way",
}
PAINTER = {  # what each of its painters does
    "batch_size": "Paintings in the last step",
    "step_ms": "Milliseconds of the last step",
    "gpu_mb": "Megabytes that it holds on the GPU",
}


@bp.get("/metrics")
@for_admins
def metrics() -> Response:
    """All of them as text; 503 as a problem when the queue does not answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(job_store(), list(catalogue().models())))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Figures(Collector):
    """Those of one scrape."""

    def __init__(self, job_store: JobStore, models: list[str]) -> None:
        self.waiting = {model: job_store.statistics.waiting(model) for model in models}
        self.counts, self.workers = job_store.statistics.counts(), job_store.heartbeats.workers()

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        yield gauge("queue_depth", "Paintings that wait", "model", ((m, n) for m, (n, _) in self.waiting.items()))
        ages = ((model, age) for model, (_, age) in self.waiting.items())
        yield gauge("queue_age_seconds", "How long the first of them has waited", "model", ages)
        jobs = CounterMetricFamily(PREFIX + "jobs", "Jobs by how their picture came about", labels=["origin"])
        for origin in Origin:
            jobs.add_metric([str(origin)], self.counts[origin])
        yield jobs
        for name, text in COSTS.items():
            yield CounterMetricFamily(PREFIX + name, text, value=self.counts[name])
        text = "Requests that were not counted, since what counts them did not answer"
        yield CounterMetricFamily(PREFIX + "unlimited_requests", text, value=unlimited())
        yield GaugeMetricFamily(PREFIX + "workers", "Workers that are alive", value=len(self.workers))
        yield from self.of_workers()

    def of_workers(self) -> Iterator[Metric]:
        """What each said last."""
        for name, text in WORKER.items():
            said_of = ((worker, said.get(name, 0)) for worker, said in self.workers.items())
            yield gauge("worker_" + name, text, "worker", said_of)
        ended = CounterMetricFamily(PREFIX + "worker_paintings", "Paintings that ended", labels=["worker", "how"])
        joules = CounterMetricFamily(PREFIX + "worker_joules", "Joules that painting took", labels=["worker"])
        for worker, said in self.workers.items():
            joules.add_metric([worker], said.get("joules", 0.0))
            for how, many in said.get("ended", {}).items():
                ended.add_metric([worker, how], many)
        yield from (ended, joules)
        for name, text in PAINTER.items():
            family = GaugeMetricFamily(PREFIX + "painter_" + name, text, labels=["worker", "model"])
            for worker, said in self.workers.items():
                for model, state in said.get("painters", {}).items():
                    family.add_metric([worker, model], state.get(name, 0))
            yield family


def gauge(name: str, text: str, label: str, values: Iterable[tuple[str, Any]]) -> GaugeMetricFamily:
    """A gauge with one label."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for of, value in values:
        family.add_metric([of], value)
    return family
