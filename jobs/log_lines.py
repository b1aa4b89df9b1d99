"""The log lines of web, workers and training: time, level, logger and message on stderr."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"  # ISO 8601: local time with its offset from UTC
CHATTY = ("amqp", "celery", "httpx", "kombu", "waitress")  # they log every message, request or lost client


def log_to_stderr(**_: object) -> None:
    """Log to stderr; from chatty libraries only warnings. Ignores its arguments, which Celery's signals send."""
    logging.basicConfig(level=logging.INFO, format=FORMAT, datefmt=TIME_FORMAT)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
