"""A worker whose painter sleeps for the time of each step and then returns two colours; all else is real."""

import os
import signal
import time

from PIL import Image

from bench.fleet import POISON
from jobs.config import JobsConfig
from memo import MemoConfig, Recipe
from worker.app import create_worker
from worker.config import WorkerConfig
from worker.painters.port import ANY_TURN, OnStep, Progress, Turn


class Sleeper:
    """A painter whose steps all take `step_seconds`, and which some prompts kill with its process."""

    device = "asleep"
    metered = False

    def __init__(self, step_seconds: float) -> None:
        self.step_seconds = step_seconds

    def state(self) -> dict[str, float]:
        """See Painter."""
        return {}

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY_TURN
    ) -> Image.Image:
        """See Painter."""
        started = time.monotonic()
        for step in range(1, recipe.steps + 1):
            due = started + step * self.step_seconds  # from the start, so that a report does not delay the next step
            time.sleep(max(0.0, due - time.monotonic()))
            if POISON in recipe.prompt and step > recipe.steps // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            on_step(Progress(step))
        picture = Image.new("RGB", (recipe.width, recipe.height), f"#{recipe.key[:6]}")
        picture.paste("white" if recipe.key[0] < "8" else "black", (0, 0, 8, 8))  # a flat colour counts as a fault
        return picture


app = create_worker(
    MemoConfig.from_env(os.environ),
    JobsConfig.from_env(os.environ),
    WorkerConfig.from_env(os.environ),
    lambda model: Sleeper(float(os.environ["BENCH_STEP_SECONDS"])),
)
