"""The places where drawings can stand on a sheet.

A sheet is a grid of 16 × 16 cells, one latent position each. A canvas is a set of places of one size, such as one in
the middle or one in each quarter. Each seed shifts the canvases a little. Knows no drawings and no networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

GRID = 16  # cells along a side of the sheet
MARGIN = 0.375  # cells that a drawing leaves free in its place, so that it can be shifted a little


@dataclass(frozen=True)
class Canvas:
    """Places of `size` × `size` cells by their upper left corners, and how far a layout may shift them together."""

    size: int  # cells
    corners: tuple[tuple[int, int], ...]  # (x, y) in cells
    across: int  # cells, the largest shift to the right
    down: int  # cells, the largest shift down


CANVASES: Mapping[str, Canvas] = {
    "one": Canvas(11, ((2, 2),), across=1, down=1),
    "big": Canvas(15, ((0, 0),), across=1, down=1),
    "tiny": Canvas(5, ((4, 8),), across=3, down=1),
    "sides": Canvas(7, ((0, 4), (8, 4)), across=1, down=2),
    "stack": Canvas(7, ((4, 0), (4, 8)), across=1, down=1),
    "quarters": Canvas(7, ((0, 0), (8, 0), (0, 8), (8, 8)), across=1, down=1),
}
SIZES = tuple(sorted({canvas.size for canvas in CANVASES.values()}))
MAX_THINGS = 4  # different things in a picture; each has its own channels on a sheet
MAX_DRAWINGS = 4  # drawings in a picture, of all its things together


@dataclass(frozen=True)
class Placement:
    """One drawing's place: the number of its thing in the order of mention, and a place of a canvas."""

    thing: int
    canvas: str
    place: int


@dataclass(frozen=True)
class Layout:
    """The shift of each canvas in whole cells, (across, down) in the order of CANVASES."""

    shifts: tuple[tuple[int, int], ...]

    def corners(self, name: str) -> tuple[tuple[int, int], ...]:
        """The upper left corners (x, y) of a canvas's places, in cells."""
        across, down = self.shifts[tuple(CANVASES).index(name)]
        return tuple((x + across, y + down) for x, y in CANVASES[name].corners)


def draw_layout(random: Random) -> Layout:
    """A random layout."""
    canvases = CANVASES.values()
    return Layout(tuple((random.randint(0, canvas.across), random.randint(0, canvas.down)) for canvas in canvases))
