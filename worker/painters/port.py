"""The painter's port: takes a recipe, returns an image, reports after every step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from memo import Recipe


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a painting is after a step."""

    step: int
    seconds_left: float | None = None  # at the current speed
    joules: float = 0.0  # spent on the painting so far
    preview: Callable[[], Image.Image] | None = None  # makes a small, rough preview; cheap, but not free
    notes: tuple[str, ...] = ()  # what the picture leaves out of the prompt, in words
    message: str = ""  # what the painter is waiting for, if it reports no steps


class TooLarge(Exception):
    """A single painting does not fit into the device's memory now; it may fit later, if other programs free some."""

    def __init__(self, recipe: Recipe, device: str, error: Exception) -> None:
        size = f"{recipe.width} × {recipe.height}"
        super().__init__(
            f"{size} of {recipe.model} does not fit into the memory of {device}: ask for a smaller size ({error})"
        )


def remedy_for_overflow(recipe: Recipe, device: object) -> str:
    """What a user or operator can do about numbers that overflowed on this device; "" if nothing is known."""
    if recipe.adapter:
        name, _, weight = recipe.adapter.partition("@")[0].partition(":")
        return f"the adapter {name} at weight {weight} may be too strong or damaged; lower its weight or leave it out"
    if "float16" in str(device):  # bfloat16, too
        return f"the model may not work with {device}; WORKER_DTYPE=float32 allows larger numbers"
    return "weights of the model may be damaged; add the model again"


@dataclass(frozen=True, slots=True)
class Turn:
    """The user of a painting, and its rank among that user's waiting paintings: the lowest goes first."""

    user: str = ""
    rank: float = 0.0


ANY_TURN = Turn()
OnStep = Callable[[Progress], None]


class Painter(Protocol):
    """Paints with one model; safe to use from several threads. The same recipe always gives the same image."""

    @property
    def device(self) -> str:
        """The device as in a picture's metadata, for example "cpu float32"."""

    metered: bool  # whether joules are measured rather than estimated

    def state(self) -> Mapping[str, float]:
        """The current load, for the page on workers and for metrics: `batch_size`, `step_ms`, `gpu_mb` …"""

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY_TURN
    ) -> Image.Image:
        """An RGB image of the recipe's size. Calls `on_step` after every step; its exceptions stop the painting.

        `init_image` is the RGB picture that the recipe starts from, if it names one, in any size. `turn` decides the
        order if more paintings wait than the painter can start.
        """


@dataclass(frozen=True, slots=True)
class PainterOptions:
    """The settings of painters; see docs/architecture.md."""

    threads: int = 1
    slots: int = 1  # pictures at once
    device: str = "auto"
    dtype: str = "auto"
    compile: str = "0"  # "1" for torch.compile, "max" to also search the fastest kernels, which takes longer
    hub_token: str | None = None  # for the Hugging Face Inference API
    watts: float | None = None  # power of a busy core or of the GPU, if energy cannot be measured
