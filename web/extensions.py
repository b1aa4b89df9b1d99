"""The parts that the current Flask application was created from, read from its extensions."""

from flask import current_app

from jobs.api_keys import ApiKeys
from jobs.models import Catalogue
from jobs.queue import Queue
from jobs.sessions import Sessions
from jobs.store.job_store import JobStore
from memo import Memory

from .config import WebConfig


def memory() -> Memory:
    """The memory of painted pictures."""
    memory: Memory = current_app.extensions["memory"]
    return memory


def queue() -> Queue:
    """The queue through which workers get their paintings."""
    queue: Queue = current_app.extensions["queue"]
    return queue


def job_store() -> JobStore:
    """The store of jobs and of the statistics about them."""
    return queue().job_store


def catalogue() -> Catalogue:
    """The models that this installation offers."""
    catalogue: Catalogue = current_app.extensions["catalogue"]
    return catalogue


def api_keys() -> ApiKeys:
    """The API keys that this server accepts."""
    keys: ApiKeys = current_app.extensions["api_keys"]
    return keys


def sessions() -> Sessions:
    """The sessions of browsers in which somebody signed in."""
    sessions: Sessions = current_app.extensions["sessions"]
    return sessions


def web_config() -> WebConfig:
    """The settings of the web process."""
    config: WebConfig = current_app.extensions["config"]
    return config
