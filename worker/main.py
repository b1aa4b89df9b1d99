"""The worker process, started as `celery --app worker.main:app worker --pool threads --concurrency 1 …`.

The only file of this room that reads the environment.
"""

import logging
import os
import socket
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from memo import MemoConfig, open_memory

from .board import open_board
from .catalogue import Catalogue
from .celery_app import PAINT, create_celery
from .config import WorkerConfig
from .paint import Studio
from .painter import Painter, open_painter
from .queue import send
from .tend import Tender

log = logging.getLogger(__name__)


class Painters:
    """The painters of this process, loaded on first use and kept while their model is unchanged."""

    def __init__(self, catalogue: Catalogue, threads: int) -> None:
        self.catalogue, self.threads = catalogue, threads
        self.loaded: dict[tuple[str, str], Painter] = {}

    def __call__(self, name: str) -> Painter:
        """The painter of this model; raises BadSetup or BadRecipe."""
        model = self.catalogue.model(name)
        kept = self.loaded.get((name, model.revision))
        if kept is None:
            log.info("loading the model %s %s", name, model.revision)
            kept = self.loaded[name, model.revision] = open_painter(model, self.threads)
        return kept


def create_worker(memo: MemoConfig, config: WorkerConfig) -> Celery:
    """The Celery application with its one task; opens nothing before Celery starts the worker."""
    app = create_celery(config)
    open_for_work: list[tuple[Studio, Tender]] = []

    def paint(painting: str) -> str:
        return open_for_work[0][0].paint(painting)

    app.task(name=PAINT, shared=False)(paint)

    def open_studio(**_: Any) -> None:
        catalogue = Catalogue(Path(config.models))
        board = open_board(config.redis)
        painters = Painters(catalogue, int(config.threads))
        names = list(catalogue.models())
        device = painters(names[0]).device
        studio = Studio(board, open_memory(memo), painters)
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "models": names, "device": device}
        name = f"{socket.gethostname()}:{os.getpid()}"
        open_for_work.append((studio, Tender(studio, lambda p: send(app, board, p), name=name, facts=facts)))

    def start_tending(**_: Any) -> None:
        open_for_work[0][1].start()
        log.info("worker ready")

    def hand_back(**_: Any) -> None:
        open_for_work[0][0].closing.set()

    def stop_tending(**_: Any) -> None:
        open_for_work[0][1].stop()

    setup_logging.connect(log_to_stderr, weak=False)
    worker_init.connect(open_studio, weak=False)
    worker_ready.connect(start_tending, weak=False)
    worker_shutting_down.connect(hand_back, weak=False)
    worker_shutdown.connect(stop_tending, weak=False)
    return app


def log_to_stderr(**_: Any) -> None:
    """Instead of Celery's own formats: one line an event, others' chatter left out."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("celery", "httpx", "kombu", "amqp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


app = create_worker(MemoConfig.from_env(os.environ), WorkerConfig.from_env(os.environ))
