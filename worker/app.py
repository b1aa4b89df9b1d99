"""Creates the Celery application of a worker. Reads no environment."""

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from jobs.celery_app import PAINT, QUEUE, create_celery, exit_on_error, queue_of, queues_of
from jobs.config import JobsConfig
from jobs.log_lines import log_to_stderr
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

LoadPainter = Callable[[Model], Painter]


class Painters:
    """The painters of this process, loaded on first use and kept while their model is unchanged.

    Loaded painters stay usable while another is loading.
    """

    def __init__(self, catalogue: Catalogue, load_painter: LoadPainter) -> None:
        self.catalogue, self.load_painter = catalogue, load_painter
        self.loading = threading.Lock()
        self.loaded: dict[tuple[str, str], Painter] = {}

    def state(self) -> dict[str, dict[str, float]]:
        """The state of each loaded painter, by the name of its model."""
        return {name: dict(painter.state()) for (name, _), painter in list(self.loaded.items())}

    def __call__(self, name: str) -> Painter:
        """The painter of this model; raises BadSetup or BadRecipe."""
        model = self.catalogue.model(name)
        painter = self.loaded.get((name, model.revision))
        if painter is None:
            with self.loading:
                painter = self.loaded.get((name, model.revision)) or self.load(model)
        return painter

    def for_recipe(self, recipe: Recipe) -> Painter:
        """The painter of this recipe; raises BadSetup if its model was replaced, which would give another picture."""
        revision = self.catalogue.model(recipe.model).revision
        if revision != recipe.revision:
            change = f"from revision {recipe.revision} to {revision}"
            raise BadSetup(f"{recipe.model} was replaced after this request ({change}): send the request again")
        return self(recipe.model)

    def load(self, model: Model) -> Painter:
        """Load the painter of this model. A painter of older weights is freed after its last painting."""
        log.info("loading the model %s %s", model.name, model.revision)
        self.loaded = {key: painter for key, painter in self.loaded.items() if key[0] != model.name}
        gc.collect()  # networks contain reference cycles, which only the garbage collector frees
        self.loaded[model.name, model.revision] = painter = self.load_painter(model)
        return painter


def create_worker(
    memo: MemoConfig, jobs: JobsConfig, config: WorkerConfig, load_painter: LoadPainter | None = None
) -> Celery:
    """The Celery application with its tasks; opens nothing before Celery starts the worker.

    `load_painter` makes the painter of a model, by default from its weights.
    """
    app = create_celery(jobs)
    worker_init.connect(log_to_stderr, weak=False)  # before models are loaded: Celery would do it later
    setup_logging.connect(log_to_stderr, weak=False)
    connect_painting(app, memo, jobs, config, load_painter)
    worker_ready.connect(lambda **_: log.info("worker ready"), weak=False)
    return app


def connect_painting(
    app: Celery, memo: MemoConfig, jobs: JobsConfig, config: WorkerConfig, load_painter: LoadPainter | None
) -> None:
    """Define the task of painting, and start what runs beside it once the worker is ready."""
    runners: list[PaintingRunner] = []  # holds one, once the worker is initialized

    def paint(model: str) -> str:
        return runners[0].handle_message(model)

    app.task(name=PAINT, shared=False)(paint)

    def open_runner(sender: Any, **_: Any) -> None:
        queues = ModelQueues(sender, Catalogue(Path(jobs.models)))
        if not queues.has_models:
            return
        queues.catalogue.check()
        options = config.painter_options()
        sender.concurrency = options.slots
        job_store = open_job_store(jobs.redis)
        painters = Painters(queues.catalogue, load_painter or (lambda model: open_painter(model, options)))
        device = painters(queues.listen()[0]).device
        memory = open_memory(replace(memo, judge="rules"))  # a worker compares no prompts: the cheapest judge will do
        runner = PaintingRunner(job_store, memory, painters.for_recipe)
        runner.painter_states = painters.state
        runner.give_up = lambda: os.kill(os.getpid(), signal.SIGTERM)  # hands back its other paintings
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "device": device}
        name = f"{socket.gethostname()}:{os.getpid()}"
        notify = partial(notify_worker, app)
        lease_keeper = LeaseKeeper(runner, notify, queues.listen, slots=options.slots, name=name, facts=facts)
        runners.append(runner)
        worker_ready.connect(exit_on_error(queues.mark_running), weak=False)
        worker_ready.connect(exit_on_error(lambda **_: lease_keeper.start()), weak=False)
        deliverer = Deliverer(open_webhooks(job_store, jobs), memory)
        worker_ready.connect(exit_on_error(lambda **_: deliverer.start()), weak=False)
        worker_shutting_down.connect(lambda **_: runner.closing.set(), weak=False)
        worker_shutdown.connect(lambda **_: lease_keeper.stop(), weak=False)
        worker_shutdown.connect(lambda **_: deliverer.stop(), weak=False)

    worker_init.connect(exit_on_error(open_runner), weak=False)


class ModelQueues:
    """The queues that a worker listens on: those that it was started with, or one for each model of the catalogue."""

    def __init__(self, worker: Any, catalogue: Catalogue) -> None:
        self.queues, self.hostname, self.control = worker.app.amqp.queues, worker.hostname, worker.app.control
        self.catalogue = catalogue
        names = queues_of(worker)
        self.serves_all = QUEUE in names
        self.named_models = [name.removeprefix(f"{QUEUE}.") for name in names if name.startswith(f"{QUEUE}.")]
        self.is_running = False

    @property
    def has_models(self) -> bool:
        """Whether this worker was started with queues of paintings."""
        return self.serves_all or bool(self.named_models)

    def mark_running(self, **_: Any) -> None:
        """Note that the worker consumes messages now, so that `listen` adds later queues to the running consumer."""
        self.is_running = True

    def listen(self) -> list[str]:
        """Listen on the queues of all models that this worker serves; returns those models. Raises BadSetup."""
        models = list(self.catalogue.models())
        if not self.serves_all:
            if missing := [name for name in self.named_models if name not in models]:
                known = ", ".join(models)
                raise BadSetup(f"there is no model {missing[0]!r} in {self.catalogue.folder}; there are {known}")
            return self.named_models
        for queue in (queue_of(model) for model in models):
            if queue in self.queues.consume_from:
                continue
            if self.is_running:
                log.info("now listening on the queue %s as well", queue)
                self.control.add_consumer(queue, destination=[self.hostname])
            else:
                self.queues.select_add(self.queues.new_missing(queue))
        return models
