"""Paint pictures with a model as the worker does, and measure the time and memory of one picture.

`python -m bench.pictures.model_painter MODELS MODEL` paints one picture and prints the process's peak memory in MB.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from jobs.models import Catalogue
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions, Progress

from .renders import SIDE

THREADS = 2
ANY_NAME = "0" * 32  # of an initial picture that is passed to the painter directly
PROMPT = "a red fox in the snow"


class ModelPainter:
    """Paints with one model of a folder; `settings` replace the model's defaults."""

    def __init__(
        self, models: Path, name: str, settings: Mapping[str, object], threads: int = THREADS, slots: int = 1
    ) -> None:
        self.catalogue, self.settings = Catalogue(models), {**settings, "model": name}
        self.model = self.catalogue.model(name)
        self.painter = open_painter(self.model, PainterOptions(threads, slots, device="cpu"))

    def paint(self, prompt: str, seed: int, side: int, start: tuple[Image.Image, float] | None = None) -> Image.Image:
        """Paint one picture of side × side px, from noise or from an initial picture and a strength."""
        settings = {**self.settings, "prompt": prompt, "seed": seed, "width": side, "height": side}
        if start is None:
            return self.painter(self.catalogue.recipe(settings), ignore_step)
        init_image, strength = start
        recipe = self.catalogue.recipe({**settings, "init_image": ANY_NAME, "strength": strength})
        return self.painter(recipe, ignore_step, init_image)

    @property
    def side(self) -> int:
        """Side in px of the pictures to be judged; the classifier would see no more detail in larger ones."""
        return SIDE if SIDE in self.model.sizes else min(self.model.sizes)


def ignore_step(progress: Progress) -> None:
    """Do nothing after a step."""


def measure_seconds(painter: ModelPainter, pictures: int, side: int = 256) -> float:
    """Median seconds of a picture of side × side px, after one to warm up."""
    times = []
    for seed in range(1 + pictures):
        started = time.perf_counter()
        painter.paint(PROMPT, seed, side)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def peak_memory(models: Path, name: str) -> float:
    """Peak memory in MB of a fresh process that paints one picture; raises CalledProcessError if it fails.

    Linux counts the peak of the parent before `exec` as the child's, so measure before this process has grown.
    """
    command = [sys.executable, "-m", __name__, str(models), name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(models: str, name: str) -> None:
    """Paint one picture at the default settings."""
    ModelPainter(Path(models), name, {}).paint(PROMPT, 0, 256)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
