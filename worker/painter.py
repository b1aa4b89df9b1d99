"""The painter's port: a recipe in, an image out, a report after every step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from memo import BadSetup, Recipe

from .catalogue import Model


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a painting is after a step."""

    step: int
    seconds_left: float | None = None  # as steps go now
    joules: float = 0.0  # spent on it so far
    preview: Callable[[], Image.Image] | None = None  # what it will be, small and rough; cheap, but not free


OnStep = Callable[[Progress], None]


class Painter(Protocol):
    """Holds one model, for several threads. The seed alone decides the noise: the same recipe, the same image."""

    device: str  # for the picture's record, for example "cpu float32"

    metered: bool  # whether joules are measured, else estimated

    def state(self) -> Mapping[str, float]:
        """What it does now, for those who watch over workers: `width`, `step_ms`, `gpu_mb` …"""

    def __call__(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """An RGB image of the recipe's size. `on_step` is called after every step; what it raises stops it."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a painter may use; see docs/architecture.md."""

    threads: int = 1
    slots: int = 1  # pictures at once
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False
    watts: float | None = None  # of a busy core or of the GPU, where energy cannot be measured


def open_painter(model: Model, means: Means) -> Painter:
    """Load the model's weights; raises BadSetup when they, torch or the device are missing."""
    try:
        from .diffusion import open_diffusion
    except ImportError as error:
        raise BadSetup(f"painting needs torch and diffusers: pip install 'memoaized[gpu]' ({error})") from error
    return open_diffusion(model, means)
