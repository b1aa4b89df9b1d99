"""The web process: `gunicorn "web.wsgi:create()"`. The only file of this package that reads the environment."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from flask import Flask

from jobs.config import JobsConfig
from jobs.models import Catalogue
from jobs.queue import open_queue
from memo import MemoConfig, open_memory

from . import create_app
from .config import WebConfig
from .limits import storage_uri


def create() -> Flask:
    """The application, configured by the environment."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    jobs = JobsConfig.from_env(os.environ)
    memory = open_memory(MemoConfig.from_env(os.environ))
    web = WebConfig.from_env(os.environ)
    web = replace(web, limits=web.limits or storage_uri(jobs.redis))
    return create_app(memory, open_queue(jobs), Catalogue(Path(jobs.models)), web)
