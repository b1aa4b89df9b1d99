"""The training worker, started as `celery --app training.main:app worker --queues train --concurrency 1`.

The only module of `training` that reads the environment.
"""

import os

from jobs.config import JobsConfig

from .app import create_training_worker

app = create_training_worker(JobsConfig.from_env(os.environ))
