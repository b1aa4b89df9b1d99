"""The Celery application of a training worker, which takes runs from the queue `train`."""

import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown

from jobs.celery_app import create_celery, queues_of
from jobs.config import JobsConfig
from jobs.log_lines import log_to_stderr
from jobs.store.job_store import open_job_store

from .runs import TRAIN_QUEUE, TRAIN_TASK, OrphanRequeuer, TrainingRunner, TrainingStore, send_training

log = logging.getLogger(__name__)


def create_training_worker(config: JobsConfig) -> Celery:
    """The Celery application with the training task; opens no connection before Celery starts the worker."""
    app = create_celery(config)
    worker_init.connect(log_to_stderr, weak=False)
    setup_logging.connect(log_to_stderr, weak=False)
    connect_training(app, config)
    worker_ready.connect(lambda **_: log.info("worker ready"), weak=False)
    return app


def connect_training(app: Celery, config: JobsConfig) -> None:
    """Register the training task, and the thread that requeues trainings whose worker died."""

    def train(training: str) -> str:
        return TrainingRunner(TrainingStore(open_job_store(config.redis).connection)).run(training)

    app.task(name=TRAIN_TASK, shared=False)(train)

    def open_requeuer(sender: Any, **_: Any) -> None:
        if TRAIN_QUEUE not in queues_of(sender):
            return
        requeuer = OrphanRequeuer(
            TrainingStore(open_job_store(config.redis).connection), lambda training: send_training(app, training)
        )
        worker_ready.connect(lambda **_: requeuer.start(), weak=False)
        worker_shutdown.connect(lambda **_: requeuer.stop(), weak=False)

    worker_init.connect(open_requeuer, weak=False)
