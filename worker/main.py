"""The worker process, started as `celery --app worker.main:app worker --pool threads …`.

The only file of this room that reads the environment.
"""

import os

from jobs.config import JobsConfig
from memo import MemoConfig

from .app import create_worker
from .config import WorkerConfig

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # nothing that it logs while loading is for users
app = create_worker(
    MemoConfig.from_env(os.environ), JobsConfig.from_env(os.environ), WorkerConfig.from_env(os.environ)
)
