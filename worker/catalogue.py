"""Which models there are, what each can paint, and its defaults. Knows files, never torch."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from memo import BadRecipe, BadSetup, Recipe, from_mapping
from memo.recipe import SAMPLERS, SCHEDULES, check_choice

PIPELINE = "pipeline"  # the family of whatever diffusers has a pipeline for
REMOTE = ("huggingface-inference", "bedrock")  # families whose weights are elsewhere
PIECE = 2**24  # bytes read at once
USUAL = tuple(name for name in SAMPLERS if name != "lcm")  # which wants a model that was distilled for it
LCM_STEPS = 50  # at most
WITHOUT_KARRAS = ("ddim", "lcm")  # samplers whose steps are not placed by sigmas


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One folder of weights. `sizes` are the sides in pixels of the square pictures it paints."""

    name: str
    revision: str  # 16 hex digits of the weights
    title: str
    licence: str
    folder: Path
    sizes: tuple[int, ...]
    defaults: Mapping[str, Any]
    samplers: tuple[str, ...] = USUAL
    schedules: tuple[str, ...] = SCHEDULES
    remote: bool = False  # painted elsewhere
    script: str = "LATIN"  # the only script its text encoder reads; "" = any


class Catalogue:
    """The models of a folder, looked up anew at each call: a new model needs no restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def models(self) -> dict[str, Model]:
        """All models by name, the default one first; raises BadSetup naming a model.json that is wrong."""
        files = sorted(self.folder.glob("[!.]*/model.json"))  # a model being replaced begins with a dot
        models = [read_model(file, fingerprint(file.parent)) for file in files]
        if not models:
            raise BadSetup(f"there is no model in {self.folder}: each subfolder with a model.json is one")
        models.sort(key=lambda model: (model.name != "stickers", model.name))
        return {model.name: model for model in models}

    def model(self, name: str) -> Model:
        """The model of this name; raises BadRecipe naming those there are."""
        models = self.models()
        check_choice("model", name, tuple(models))
        return models[name]

    def describe(self) -> list[dict[str, Any]]:
        """What people may know of each model, JSON-able, the default one first."""
        names = ("name", "revision", "title", "licence", "sizes", "samplers", "schedules", "defaults")
        return [{name: getattr(model, name) for name in names} for model in self.models().values()]

    def recipe(self, wanted: Mapping[str, object]) -> Recipe:
        """A recipe the model can follow, its defaults filled in; raises BadRecipe."""
        models = self.models()
        name = wanted.get("model", next(iter(models)))
        check_choice("model", name, tuple(models))
        model = models[str(name)]
        recipe = from_mapping({**model.defaults, **wanted, "model": name, "revision": model.revision})
        check(recipe, model)
        return recipe


def check(recipe: Recipe, model: Model) -> None:
    """Raise BadRecipe for what this model cannot paint."""
    check_offered("width", recipe, model.sizes)
    check_offered("height", recipe, model.sizes)
    check_offered("sampler", recipe, model.samplers)
    check_offered("schedule", recipe, model.schedules)
    if recipe.width != recipe.height:
        raise BadRecipe("height", recipe.height, f"{model.name} paints squares: {recipe.width} like the width")
    if recipe.schedule == "karras" and recipe.sampler in WITHOUT_KARRAS:
        raise BadRecipe("schedule", recipe.schedule, f"the sampler {recipe.sampler} has only native")
    if recipe.sampler == "lcm" and recipe.steps > LCM_STEPS:
        raise BadRecipe(
            "steps", recipe.steps, f"with the sampler lcm at most {LCM_STEPS} make sense, 4 to 8 are usual"
        )
    if recipe.adapter:
        raise BadRecipe("adapter", recipe.adapter, f"{model.name} has no adapters: leave it out")
    for field in ("prompt", "negative_prompt"):
        check_script(field, getattr(recipe, field), model)


def check_offered(field: str, recipe: Recipe, choices: Sequence[object]) -> None:
    """Raise BadRecipe unless the recipe's field is one of what the model offers."""
    if (value := getattr(recipe, field)) not in choices:
        raise BadRecipe(field, value, f"{recipe.model} offers {', '.join(map(str, choices))}")


def check_script(field: str, text: str, model: Model) -> None:
    """Raise BadRecipe for letters and signs that the model's text encoder would read as nothing."""
    if not model.script:
        return
    for character in text:
        if unicodedata.category(character) in ("So", "Sk", "Cn", "Co", "Cf"):
            name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
            raise BadRecipe(field, text, f"{model.name} reads words, not signs: write {name!r} in words")
        if character.isalpha() and not unicodedata.name(character, "").startswith(model.script):
            script = model.script.capitalize()
            raise BadRecipe(field, text, f"{model.name} reads English in {script} letters: translate {character!r} …")


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a model's files do: names, sizes, times."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".zip"))
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


@lru_cache(maxsize=64)
def read_model(file: Path, files: tuple[tuple[str, int, int], ...]) -> Model:
    """The model that a model.json describes; raises BadSetup naming the file and the fault."""
    try:
        values = json.loads(file.read_text())
        return Model(
            name=values["name"],
            revision=revision([Path(name) for name, _, _ in files]),
            title=values["title"],
            licence=values["licence"],
            folder=file.parent,
            sizes=tuple(values["sizes"]),
            defaults={"width": 256, "height": 256, **values["defaults"]},
            samplers=tuple(values.get("samplers", USUAL)),
            schedules=tuple(values.get("schedules", SCHEDULES)),
            remote=values.get("family") in REMOTE,
            script=values.get("script", "LATIN"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSetup(f"{file} does not describe a model: {error!r}") from error


def revision(files: list[Path]) -> str:
    """16 hex digits over the bytes of all weights, drawings and configurations, in the order of their names."""
    state = hashlib.blake2b(digest_size=8)
    for file in files:
        state.update(file.name.encode() + b"\0")
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):  # weights may be larger than memory
                state.update(piece)
    return state.hexdigest()
