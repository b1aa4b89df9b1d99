"""The worker process, started as `celery --app worker.main:app worker --pool threads …`.

The only file of this package that reads the environment.
"""

import os

from jobs.config import JobsConfig
from memo import MemoConfig

from .app import create_worker
from .config import WorkerConfig

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # users need none of its messages about loading
app = create_worker(
    MemoConfig.from_env(os.environ), JobsConfig.from_env(os.environ), WorkerConfig.from_env(os.environ)
)
