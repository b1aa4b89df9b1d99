"""Near starts: which remembered picture a new one may start from, and how much of that picture must change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from .index import to_picture
from .picture import NearStart, Picture, read_near
from .points import Neighbour
from .recipe import Recipe

Strengths = Sequence[tuple[float, float]]  # the least share for each strength, highest share first

# MoDM's implementation of NIRVANA (https://arxiv.org/abs/2312.04429) skips as many steps, but goes by CLIP's cosine.
# How good the pictures are when shares decide has not been measured; bench/gpu/near.py can measure it.
DEFAULT_STRENGTHS: Strengths = ((2.75, 0.5), (2.5, 0.6), (2.25, 0.7), (2.0, 0.8), (1.75, 0.9))
MIN_STRENGTH = 0.5  # so that at most half of the steps are skipped
MIN_STEPS = 8  # with fewer steps, the first one shapes the whole picture, and there is little to save
LARGEST_SHARE = 3  # everything
MAX_GENERATION = 2  # in longer chains, faults would add up


@dataclass(frozen=True, slots=True)
class Start:
    """A remembered picture that a new one can start from."""

    picture: Picture
    share: float  # how much of it the two prompts share, 0 to LARGEST_SHARE
    strength: float  # how much of it changes, for the recipe of the new picture
    steps_saved: int

    @property
    def near(self) -> NearStart:
        """What the new picture records about its start."""
        return NearStart(
            picture=self.picture.key,
            share=round(self.share, 2),
            steps_saved=self.steps_saved,
            generation=1 + generation_of(self.picture.near),
        )

    def describe(self, steps: int) -> str:
        """The start as a clause for users."""
        return (
            f"it starts from the picture of {self.picture.recipe.prompt!r}, since the prompts share"
            f" {self.share:.1f} of {LARGEST_SHARE}, and skips {self.steps_saved} of {steps} steps"
        )


def may_be_started_from(point: Neighbour) -> bool:
    """Whether nobody chose a picture's initial image, nobody marked it wrong, and its generation allows another."""
    near = read_near(point.payload.get("near"))
    is_chosen = bool(point.payload["init_image"]) and near is None
    return not is_chosen and not point.payload.get("wrong_for") and generation_of(near) < MAX_GENERATION


def generation_of(near: NearStart | None) -> int:
    """How many near starts led to a picture: 0 if it was painted from noise."""
    return near.generation if near else 0


def find_start(
    recipe: Recipe,
    prompts: Mapping[str, Iterable[Neighbour]],
    shares: Iterable[float],
    strengths: Strengths,
    is_usable: Callable[[Picture], bool],
) -> Start | None:
    """The usable picture that shares most with the recipe, of equal ones the nearest; None if none shares enough.

    `prompts` holds the points of each prompt, and `shares` its share.
    """
    if recipe.steps < MIN_STEPS:
        return None
    ranked = sorted(zip(shares, prompts.values(), strict=True), key=lambda pair: -pair[0])
    for share, points in ranked:
        if (strength := strength_of(share, strengths)) is None:
            return None
        if (steps := steps_taken(recipe.steps, strength)) == recipe.steps:
            return None
        for picture in map(to_picture, (point.payload for point in points)):
            if is_usable(picture):
                return Start(picture, share, strength_for(steps, recipe.steps), recipe.steps - steps)
    return None


def strength_of(share: float, strengths: Strengths) -> float | None:
    """The strength for a share; None if it is too low to start."""
    return next((max(MIN_STRENGTH, strength) for least, strength in strengths if share >= least), None)


def steps_taken(steps: int, strength: float) -> int:
    """How many of the steps are taken at a strength, rounded up so that never more are skipped than it allows."""
    return ceil(round(steps * strength, 6))


def strength_for(taken: int, steps: int) -> float:
    """The least strength in six decimals at which a painter, which rounds down, takes so many of the steps."""
    strength = round(taken / steps, 6)
    return strength if int(steps * strength) == taken else round(strength + 1e-6, 6)
