"""Find the named colour of a picture's background, from the pixels along its border."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.scenes.places import COLOURS

BORDERS_PER_SIDE = 16  # the border is a sixteenth of the side wide
Floats = NDArray[np.float64]


def background_colour(picture: Image.Image) -> str:
    """The named colour that is nearest to more than half of the border's pixels; "" if there is none."""
    nearest = distances(border(np.asarray(picture)), np.array(tuple(COLOURS.values()))).argmin(1)
    votes = np.bincount(nearest, minlength=len(COLOURS))
    winner = int(votes.argmax())
    return tuple(COLOURS)[winner] if votes[winner] > votes.sum() / 2 else ""


def border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The outermost rows and columns of a (side, side, 3) picture, as (n, 3)."""
    width = max(1, len(pixels) // BORDERS_PER_SIDE)
    inside = np.zeros(pixels.shape[:2], bool)
    inside[width:-width, width:-width] = True
    return pixels[~inside]


def distances(pixels: NDArray[np.uint8], colours: NDArray[np.int64]) -> Floats:
    """Perceived differences of each pixel from each colour, as distances in Oklab: (pixels, colours)."""
    return np.asarray(np.linalg.norm(oklab(pixels)[:, None] - oklab(colours)[None], axis=2))


def oklab(rgb: NDArray[np.uint8] | NDArray[np.int64]) -> Floats:
    """(n, 3) sRGB bytes as lightness and two opponent colours (Ottosson 2020, https://bottosson.github.io/posts/oklab)."""
    parts = rgb / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T)


TO_CONES = np.array(
    (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
)
TO_LAB = np.array(
    (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
)
