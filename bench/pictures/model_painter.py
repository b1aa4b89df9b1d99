"""Pictures by the product's own way: catalogue, recipe, painter; what one costs in seconds and memory.

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
from worker.painters.port import PainterOptions

from .renders import SIDE

THREADS = 2
PROMPT = "a red fox in the snow"


class Brush:
    """One model of a folder, with settings other than its own where they are given."""

    def __init__(self, models: Path, name: str, settings: Mapping[str, object], threads: int = THREADS) -> None:
        self.catalogue, self.settings = Catalogue(models), {**settings, "model": name}
        self.model = self.catalogue.model(name)
        self.painter = open_painter(self.model, PainterOptions(threads, device="cpu"))

    def paint(self, prompt: str, seed: int, side: int) -> Image.Image:
        """One picture of side × side px."""
        wanted = {**self.settings, "prompt": prompt, "seed": seed, "width": side, "height": side}
        return self.painter(self.catalogue.recipe(wanted), lambda step: None)

    @property
    def side(self) -> int:
        """What pictures to be judged are painted at: the judges see no more."""
        return SIDE if SIDE in self.model.sizes else min(self.model.sizes)


def seconds(brush: Brush, pictures: int, side: int = 256) -> float:
    """The median for a picture of so many, after one to warm up."""
    taken = []
    for seed in range(1 + pictures):
        began = time.perf_counter()
        brush.paint(PROMPT, seed, side)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def peak_memory(models: Path, name: str) -> float:
    """MB of a fresh process that paints one picture; raises CalledProcessError when it cannot.

    Linux counts a parent's peak before `exec` as its child's: ask before this process has grown.
    """
    command = [sys.executable, "-m", __name__, str(models), name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(models: str, name: str) -> None:
    """Paint one picture at the default settings."""
    Brush(Path(models), name, {}).paint(PROMPT, 0, 256)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
