"""What a worker process does: it paints. Knows Celery, no environment."""

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from jobs.celery_app import PAINT, QUEUE, create_celery, exit_on_bad_setup, log_to_stderr, queue_of, queues_of
from jobs.config import JobsConfig
from jobs.models import Catalogue, Model
from jobs.queue import notify_worker, open_webhooks
from jobs.store.job_store import open_job_store
from jobs.webhooks.deliverer import Deliverer
from memo import BadSetup, MemoConfig, Recipe, open_memory
from worker.painters.factory import open_painter
from worker.painters.port import Painter

from .config import WorkerConfig
from .leases import LeaseKeeper
from .paint import PaintingRunner

log = logging.getLogger(__name__)


Opening = Callable[[Model], Painter]


class Painters:
    """The painters of this process, loaded on first use and kept while their model is unchanged.

    Those that are loaded answer while another is loading.
    """

    def __init__(self, catalogue: Catalogue, opening: Opening) -> None:
        self.catalogue, self.opening = catalogue, opening
        self.loading = threading.Lock()
        self.loaded: dict[tuple[str, str], Painter] = {}

    def state(self) -> dict[str, dict[str, float]]:
        """What each does now."""
        return {name: dict(painter.state()) for (name, _), painter in list(self.loaded.items())}

    def __call__(self, name: str) -> Painter:
        """The painter of this model; raises BadSetup or BadRecipe."""
        model = self.catalogue.model(name)
        kept = self.loaded.get((name, model.revision))
        if kept is None:
            with self.loading:
                kept = self.loaded.get((name, model.revision)) or self.load(model)
        return kept

    def of(self, recipe: Recipe) -> Painter:
        """Who paints this recipe; raises BadSetup if its model was replaced, for it would be another picture."""
        revision = self.catalogue.model(recipe.model).revision
        if revision != recipe.revision:
            was = f"{recipe.model} was replaced since this was asked for (now {revision}, then {recipe.revision})"
            raise BadSetup(f"{was}: ask again")
        return self(recipe.model)

    def load(self, model: Model) -> Painter:
        """The painter of this model, in place of one of other weights, which goes with its last painting."""
        log.info("loading the model %s %s", model.name, model.revision)
        self.loaded = {key: painter for key, painter in self.loaded.items() if key[0] != model.name}
        gc.collect()  # networks hold each other
        self.loaded[model.name, model.revision] = painter = self.opening(model)
        return painter


def create_worker(memo: MemoConfig, jobs: JobsConfig, config: WorkerConfig, opening: Opening | None = None) -> Celery:
    """The Celery application with its tasks; opens nothing before Celery starts the worker.

    `opening` makes the painter of a model; by default its weights are loaded.
    """
    app = create_celery(jobs)
    worker_init.connect(log_to_stderr, weak=False)  # before models are loaded; Celery would do it after that
    setup_logging.connect(log_to_stderr, weak=False)
    connect_painting(app, memo, jobs, config, opening)
    worker_ready.connect(lambda **_: log.info("worker ready"), weak=False)
    return app


def connect_painting(
    app: Celery, memo: MemoConfig, jobs: JobsConfig, config: WorkerConfig, opening: Opening | None
) -> None:
    """The task of painting, and what workers that paint do beside it."""
    open_for_work: list[PaintingRunner] = []

    def paint(model: str) -> str:
        return open_for_work[0].answer(model)

    app.task(name=PAINT, shared=False)(paint)

    def open_runner(sender: Any, **_: Any) -> None:
        line = Line(sender, Catalogue(Path(jobs.models)))
        if not line.paints:
            return
        line.catalogue.check()
        options = config.painter_options()
        sender.concurrency = options.slots
        job_store = open_job_store(jobs.redis)
        painters = Painters(line.catalogue, opening or (lambda model: open_painter(model, options)))
        device = painters(line.listen()[0]).device
        memory = open_memory(replace(memo, judge="rules"))  # a worker keeps pictures and never looks them up
        runner = PaintingRunner(job_store, memory, painters.of)
        runner.painting = painters.state
        runner.give_up = lambda: os.kill(os.getpid(), signal.SIGTERM)  # hands back what else is under way
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "device": device}
        name = f"{socket.gethostname()}:{os.getpid()}"
        lease_keeper = LeaseKeeper(
            runner, lambda m: notify_worker(app, m), line.listen, slots=options.slots, name=name, facts=facts
        )
        open_for_work.append(runner)
        worker_ready.connect(line.opened, weak=False)
        worker_ready.connect(lambda **_: lease_keeper.start(), weak=False)
        deliverer = Deliverer(open_webhooks(job_store, jobs), memory)
        worker_ready.connect(lambda **_: deliverer.start(), weak=False)
        worker_shutting_down.connect(lambda **_: runner.closing.set(), weak=False)
        worker_shutdown.connect(lambda **_: lease_keeper.stop(), weak=False)
        worker_shutdown.connect(lambda **_: deliverer.stop(), weak=False)

    worker_init.connect(exit_on_bad_setup(open_runner), weak=False)


class Line:
    """The queues that a worker listens at: those it was started with, or, at the queue of all, one of each model."""

    def __init__(self, worker: Any, catalogue: Catalogue) -> None:
        self.queues, self.hostname, self.control = worker.app.amqp.queues, worker.hostname, worker.app.control
        self.catalogue = catalogue
        started_with = queues_of(worker)
        self.all = QUEUE in started_with
        self.named = [name.removeprefix(f"{QUEUE}.") for name in started_with if name.startswith(f"{QUEUE}.")]
        self.running = False

    @property
    def paints(self) -> bool:
        """Whether it is a worker that paints."""
        return self.all or bool(self.named)

    def opened(self, **_: Any) -> None:
        """The worker takes messages now, and must be told of queues that come later."""
        self.running = True

    def listen(self) -> list[str]:
        """The models that this worker serves now, each one's queue listened at; raises BadSetup."""
        models = list(self.catalogue.models())
        if not self.all:
            if missing := [name for name in self.named if name not in models]:
                known = ", ".join(models)
                raise BadSetup(f"there is no model {missing[0]!r} in {self.catalogue.folder}, only {known}")
            return self.named
        for queue in (queue_of(model) for model in models):
            if queue in self.queues.consume_from:
                continue
            if self.running:
                log.info("listening at %s from now on", queue)
                self.control.add_consumer(queue, destination=[self.hostname])
            else:
                self.queues.select_add(self.queues.new_missing(queue))
        return models
