"""What `memoaized key show` prints: the recipe behind a PNG or WebP file, a recipe text or a picture's key."""

from dataclasses import asdict
from pathlib import Path

from memo import BadKey, Forgotten, Recipe, from_text, read_png, to_text
from memo.memory import object_name
from memo.recipe import TEXT_PREFIX
from memo.store import FolderStore
from memo.webp import read_picture


def describe_recipe(file_or_key: str, pictures: Path) -> str:
    """Return a recipe as lines of `name: value`, with its key and recipe text; raises BadKey or Forgotten."""
    recipe = find_recipe(file_or_key, pictures)
    lines = {"key": recipe.key, **asdict(recipe), "recipe text": to_text(recipe)}
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value != "")


def find_recipe(file_or_key: str, pictures: Path) -> Recipe:
    """Return the recipe of the file of this name, of a recipe text, or of the kept picture with this key."""
    file = Path(file_or_key)
    if len(file_or_key) < 1000 and file.is_file():
        return read_picture(file.read_bytes()).recipe
    if file_or_key.startswith(TEXT_PREFIX):
        return from_text(file_or_key)
    try:
        return read_png(FolderStore(pictures).get(object_name(file_or_key))).recipe
    except BadKey as error:
        raise BadKey(
            f"{file_or_key[:60]!r} is neither a file, nor a recipe text, nor a key of 32 hex digits"
        ) from error
    except Forgotten as error:
        raise Forgotten(f"there is no picture {file_or_key} in {pictures}: give another --data") from error
