"""Near starts: under the policy `near`, a miss is painted from a remembered picture of a similar prompt."""

import logging
from dataclasses import replace

from werkzeug.exceptions import TooManyRequests

from memo import BadRecipe, Forgotten, Recall, Recipe, Unavailable
from memo.near import Strengths
from memo.picture import NearStart

from .access import read_image
from .extensions import catalogue
from .uploads import keep_copy

log = logging.getLogger(__name__)


def strengths_of(model: str) -> Strengths:
    """The strengths at which this model starts from similar pictures; empty if it always paints from noise."""
    return catalogue().model(model).near_strengths


def prepare_start(recipe: Recipe, recall: Recall) -> tuple[Recipe, NearStart | None, str]:
    """What to paint after a miss, the near start if there is one, and the reason.

    The picture to start from is kept as an initial image, so that the recipe can be painted again as long as the new
    picture is kept.
    """
    if (start := recall.start) is None:
        return recipe, None, recall.reason
    try:
        init_image = keep_copy(read_image(start.picture.key))
    except (Forgotten, BadRecipe, Unavailable, TooManyRequests) as error:
        log.warning("cannot start from picture %s: %s", start.picture.key, error)
        return recipe, None, "the similar picture to start from cannot be read"
    return replace(recipe, init_image=init_image, strength=start.strength), start.near, recall.reason
