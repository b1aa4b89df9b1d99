"""The page of one picture with its recipe."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from memo import to_text
from web.access import find_picture
from web.extensions import catalogue

from .visitors import name_visitor

bp = Blueprint("picture", __name__)
bp.after_request(name_visitor)


@bp.get("/pictures/<key>")
def page(key: str) -> ResponseReturnValue:
    """The picture, its recipe, and what can be done with it."""
    picture = find_picture(key)
    return render_template(
        "picture.html",
        picture=picture,
        recipe_text=to_text(picture.recipe),
        image_to_image=supports_image_to_image(picture.recipe.model),
    )


def supports_image_to_image(name: str) -> bool:
    """Whether the model of this name can start from a picture; False if it is no longer offered."""
    return any(model["name"] == name and model.get("image_to_image") for model in catalogue().to_dicts())
