"""Where things can stand in a picture: the few places that drawings are laid in for a model to look at.

The picture is a grid of 16 × 16 cells, one latent each. A canvas is one way of placing the same thing, such as "one
in the middle" or "one in each quarter". Each seed shifts the canvases a little. Knows no drawings and no networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

GRID = 16  # cells along a side of the picture
MARGIN = 0.375  # cells that a drawing leaves free in its place, so that it may stand a little aside


@dataclass(frozen=True)
class Canvas:
    """Places of `size` × `size` cells with their upper left corners, and how far a layout may shift them all."""

    size: int
    corners: tuple[tuple[int, int], ...]
    across: int
    down: int


CANVASES: Mapping[str, Canvas] = {
    "one": Canvas(11, ((2, 2),), across=1, down=1),
    "big": Canvas(15, ((0, 0),), across=1, down=1),
    "tiny": Canvas(5, ((4, 8),), across=3, down=1),
    "sides": Canvas(7, ((0, 4), (8, 4)), across=1, down=2),
    "stack": Canvas(7, ((4, 0), (4, 8)), across=1, down=1),
    "quarters": Canvas(7, ((0, 0), (8, 0), (0, 8), (8, 8)), across=1, down=1),
}
SIZES = tuple(sorted({canvas.size for canvas in CANVASES.values()}))
THINGS = 4  # different ones in a picture at most; each has its own channels on a sheet
DRAWN = 4  # drawings in a picture at most


@dataclass(frozen=True)
class Placement:
    """That a thing (its number, in the order of mention) stands in one of the places of a canvas."""

    thing: int
    canvas: str
    place: int


@dataclass(frozen=True)
class Layout:
    """The canvases shifted by whole cells, (across, down) in the order of CANVASES."""

    shifts: tuple[tuple[int, int], ...]

    def corners(self, name: str) -> tuple[tuple[int, int], ...]:
        """Upper left corners (x, y) of the canvas's places, in cells."""
        across, down = self.shifts[tuple(CANVASES).index(name)]
        return tuple((x + across, y + down) for x, y in CANVASES[name].corners)


def draw_layout(random: Random) -> Layout:
    """A layout by chance."""
    ways = CANVASES.values()
    return Layout(tuple((random.randint(0, way.across), random.randint(0, way.down)) for way in ways))
