"""The Celery application: names and settings; no task is defined and nothing connects here."""

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery

from memo import MemoError

from .config import JobsConfig

log = logging.getLogger(__name__)

PAINT = "memoaized.paint"  # the name of the only task
QUEUE = "paint"  # a worker on this queue serves every model; paint.NAME is the queue of one model
VISIBILITY_SECONDS = 24 * 3600  # until Redis redelivers an unacknowledged message; leases requeue paintings earlier


def create_celery(config: JobsConfig) -> Celery:
    """An application whose messages only wake a worker, which then claims the next painting."""
    app = Celery("memoaized", broker=config.broker, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,  # a worker that paints sets it to the number of its slots
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # for ever
        broker_channel_error_retry=True,  # a Redis that refuses to write recovers like one that is down
        broker_transport_options={
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": 3,
            "max_retries": 2,
            "interval_start": 0.1,
            "interval_max": 0.5,
        },
    )
    return app


def queue_of(model: str) -> str:
    """The name of the queue for this model's messages."""
    return f"{QUEUE}.{model}"


def exit_on_error(receiver: Callable[..., object]) -> Callable[..., None]:
    """Wrap a receiver of a Celery signal so that any error ends the process; Celery would log it and go on.

    A worker that is only half started would take messages and do nothing about them.
    """

    def receive(**arguments: Any) -> None:
        try:
            receiver(**arguments)
        except MemoError as error:
            raise SystemExit(f"this worker cannot start: {error}") from error
        except Exception as error:  # receivers load models, with whose libraries anything may go wrong
            log.exception("starting failed")
            raise SystemExit(f"this worker cannot start: {type(error).__name__}: {error}") from error

    return receive


def queues_of(worker: Any) -> set[str]:
    """The names of the queues that a worker takes messages from."""
    return set(worker.app.amqp.queues.consume_from)
