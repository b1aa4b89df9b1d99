"""The painter's port: a recipe in, an image out, a report after every step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from memo import Recipe


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a painting is after a step."""

    step: int
    seconds_left: float | None = None  # as steps go now
    joules: float = 0.0  # spent on it so far
    preview: Callable[[], Image.Image] | None = None  # what it will be, small and rough; cheap, but not free
    message: str = ""  # in words what is waited for, where steps say nothing


class TooLarge(Exception):
    """A painting alone does not fit into the device's memory now; perhaps it does when others have left it."""

    def __init__(self, recipe: Recipe, device: str, error: Exception) -> None:
        size = f"{recipe.width} × {recipe.height}"
        super().__init__(f"{size} of {recipe.model} does not fit into the memory of {device}: ask for less ({error})")


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose a painting is, and its place in the line of all that they wait for: less is sooner."""

    user: str = ""
    rank: float = 0.0


ANY = Turn()
OnStep = Callable[[Progress], None]


class Painter(Protocol):
    """Holds one model, for several threads. The seed alone decides the noise: the same recipe, the same image."""

    @property
    def device(self) -> str:
        """For the picture's record, for example "cpu float32"."""

    metered: bool  # whether joules are measured, else estimated

    def state(self) -> Mapping[str, float]:
        """What it does now, for those who watch over workers: `batch_size`, `step_ms`, `gpu_mb` …"""

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY
    ) -> Image.Image:
        """An RGB image of the recipe's size. `on_step` is called after every step; what it raises stops it.

        `init_image` is the RGB picture that the recipe starts from, if it names one, in any size. `turn` counts where
        not all who ask can be served at once.
        """


@dataclass(frozen=True, slots=True)
class PainterOptions:
    """What a painter may use; see docs/architecture.md."""

    threads: int = 1
    slots: int = 1  # pictures at once
    device: str = "auto"
    dtype: str = "auto"
    compile: str = "0"  # by torch.compile: "1", or "max" for longer
    hub_token: str | None = None  # for the Hugging Face Inference API
    watts: float | None = None  # of a busy core or of the GPU, where energy cannot be measured
