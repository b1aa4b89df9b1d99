"""Near starts: under the policy `near`, a miss is painted from a remembered picture of a similar prompt."""

import logging
from dataclasses import replace

from memo import BadRecipe, Forgotten, Recall, Recipe, Unavailable
from memo.picture import NearStart

from .access import read_image
from .extensions import catalogue
from .uploads import keep_copy

log = logging.getLogger(__name__)


def policy_for(recipe: Recipe, policy: str) -> str:
    """The memory policy of a request: "auto" instead of "near" for a model that cannot start from a picture."""
    return "auto" if policy == "near" and not can_start(recipe.model) else policy


def can_start(model: str) -> bool:
    """Whether the model of this name can start from a picture."""
    return catalogue().model(model).image_to_image


def prepare_start(recipe: Recipe, recall: Recall) -> tuple[Recipe, NearStart | None, str]:
    """What to paint after a miss, the near start if there is one, and the reason.

    The picture to start from is kept as an initial image, so that the recipe can be painted again as long as the new
    picture is kept.
    """
    if (start := recall.start) is None:
        return recipe, None, recall.reason
    try:
        init_image = keep_copy(read_image(start.picture.key))
    except (Forgotten, BadRecipe, Unavailable) as error:
        log.warning("cannot start from picture %s: %s", start.picture.key, error)
        return recipe, None, "the similar picture to start from cannot be read"
    return replace(recipe, init_image=init_image, strength=start.strength), start.near, recall.reason
