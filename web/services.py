"""The parts that this application was made over, for whoever answers a request."""

from flask import current_app

from jobs.models import Catalogue
from jobs.queue import Queue
from jobs.store.job_store import JobStore
from memo import Memory


def memory() -> Memory:
    """What was painted."""
    found: Memory = current_app.extensions["memory"]
    return found


def queue() -> Queue:
    """The door to the workers."""
    found: Queue = current_app.extensions["queue"]
    return found


def job_store() -> JobStore:
    """Where jobs, their queue and their counts are kept."""
    return queue().job_store


def catalogue() -> Catalogue:
    """What can be painted with."""
    found: Catalogue = current_app.extensions["catalogue"]
    return found
