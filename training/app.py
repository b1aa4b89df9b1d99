"""What a training worker does: it takes runs from the queue `train`. Knows Celery, no environment."""

import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown

from jobs.celery_app import create_celery, log_to_stderr, queues_of
from jobs.config import JobsConfig
from jobs.store.job_store import open_job_store

from .runs import TRAIN, TRAIN_QUEUE, Runner, Trainings, Watch, send_training

log = logging.getLogger(__name__)


def create_training_worker(config: JobsConfig) -> Celery:
    """The Celery application with the task of training; opens nothing before Celery starts the worker."""
    app = create_celery(config)
    worker_init.connect(log_to_stderr, weak=False)
    setup_logging.connect(log_to_stderr, weak=False)
    connect_training(app, config)
    worker_ready.connect(lambda **_: log.info("worker ready"), weak=False)
    return app


def connect_training(app: Celery, config: JobsConfig) -> None:
    """The task of training, and what workers that train do beside it."""

    def train(training: str) -> str:
        return Runner(Trainings(open_job_store(config.redis).connection)).run(training)

    app.task(name=TRAIN, shared=False)(train)

    def open_watch(sender: Any, **_: Any) -> None:
        if TRAIN_QUEUE not in queues_of(sender):
            return
        watch = Watch(
            Trainings(open_job_store(config.redis).connection), lambda training: send_training(app, training)
        )
        worker_ready.connect(lambda **_: watch.start(), weak=False)
        worker_shutdown.connect(lambda **_: watch.stop(), weak=False)

    worker_init.connect(open_watch, weak=False)
