"""Which models there are, what each can paint, and its defaults. Knows files, never torch."""

import hashlib
import json
import logging
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from memo import BadRecipe, BadSetup, Recipe, from_mapping
from memo.recipe import SAMPLERS, SCHEDULES, check_choice

log = logging.getLogger(__name__)

STEPPED = ("stable-diffusion", "stable-diffusion-xl")  # families of diffusers that the step loop steps
PIPELINE = "pipeline"  # the family of whatever diffusers has a pipeline for
REDRAWN = ("StableDiffusion3Pipeline", "FluxPipeline")  # beside which diffusers has one that starts from a picture
REMOTE = ("huggingface-inference", "bedrock")  # families whose weights are elsewhere
PIECE = 2**24  # bytes read at once
USUAL = tuple(name for name in SAMPLERS if name != "lcm")  # which wants a model that was distilled for it
LCM_STEPS = 50  # at most
ADAPTERS = "adapters"  # the subfolder for LoRA files
WEIGHTS_OF_ADAPTERS = (-4.0, 4.0)  # how strongly one may count
TOLD = (  # of each model
    *("name", "revision", "title", "licence", "sizes", "size_range", "samplers", "schedules", "defaults"),
    *("adapters", "image_to_image", "negative_prompts"),
)
WITHOUT_KARRAS = ("ddim", "lcm")  # samplers whose steps are not placed by sigmas


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One folder of weights. `sizes` are the sides in pixels of the square pictures it paints.

    With `size_range` (least, most, multiple) it also paints any width and height in that range that the multiple
    divides.
    """

    name: str
    revision: str  # 16 hex digits of the weights
    title: str
    licence: str
    folder: Path
    sizes: tuple[int, ...]
    defaults: Mapping[str, Any]
    samplers: tuple[str, ...] = USUAL
    schedules: tuple[str, ...] = SCHEDULES
    size_range: tuple[int, int, int] | None = None
    adaptable: bool = False  # by LoRA files
    adapters: tuple[str, ...] = ()  # LoRA files, by name
    image_to_image: bool = False  # whether it can start from a picture
    remote: bool = False  # painted elsewhere
    negative_prompts: bool = True  # whether it knows negative prompts
    script: str = "LATIN"  # the only script its text encoder reads; "" = any


class Catalogue:
    """The models of a folder, looked up anew at each call: a new model needs no restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: set[str] = set()  # what was logged already

    def models(self) -> dict[str, Model]:
        """All models by name, the default one first. One that is wrong is left out, for the others' sake, and logged.

        Raises BadSetup if none is left.
        """
        models, faults = self.read()
        if not models:
            none = f"there is no model in {self.folder}: each subfolder with a model.json is one"
            raise BadSetup("; ".join(faults.values()) or none)
        for fault in faults.values():
            if fault not in self.told:
                log.error("%s: it is left out", fault)
                self.told.add(fault)
        return models

    def check(self) -> None:
        """Raise BadSetup naming a model.json that is wrong, as one should know before work begins."""
        if faults := self.read()[1]:
            raise BadSetup("; ".join(faults.values()))

    def read(self) -> tuple[dict[str, Model], dict[str, str]]:
        """All models by name, the default one first, and by their folders' names what is wrong with others."""
        models, faults = [], {}
        for file in sorted(self.folder.glob("[!.]*/model.json")):  # a model being replaced begins with a dot
            try:
                models.append(with_adapters(read_model(file, fingerprint(file.parent))))
            except (BadSetup, OSError) as error:  # the latter for files that vanish meanwhile
                faults[file.parent.name] = str(error)
        models.sort(key=lambda model: (model.name != "stickers", model.name))
        return {model.name: model for model in models}, faults

    def model(self, name: str) -> Model:
        """The model of this name; raises BadSetup if it is there and wrong, or BadRecipe naming those there are."""
        models, faults = self.read()
        if name not in models and name in faults:
            raise BadSetup(faults[name])
        check_choice("model", name, tuple(models))
        return models[name]

    def describe(self) -> list[dict[str, Any]]:
        """What people may know of each model, JSON-able, the default one first."""
        return [{name: getattr(model, name) for name in TOLD} for model in self.models().values()]

    def recipe(self, wanted: Mapping[str, object]) -> Recipe:
        """A recipe the model can follow, its defaults filled in; raises BadRecipe."""
        models = self.models()
        name = wanted.get("model", next(iter(models)))
        check_choice("model", name, tuple(models))
        model = models[str(name)]
        recipe = from_mapping({**model.defaults, **wanted, "model": name, "revision": model.revision})
        check(recipe, model)
        return replace(recipe, adapter=whole_adapter(recipe.adapter, model)) if recipe.adapter else recipe


def check(recipe: Recipe, model: Model) -> None:
    """Raise BadRecipe for what this model cannot paint."""
    check_size(recipe, model)
    check_offered("sampler", recipe, model.samplers)
    check_offered("schedule", recipe, model.schedules)
    if recipe.schedule == "karras" and recipe.sampler in WITHOUT_KARRAS:
        raise BadRecipe("schedule", recipe.schedule, f"the sampler {recipe.sampler} has only native")
    if recipe.sampler == "lcm" and recipe.steps > LCM_STEPS:
        raise BadRecipe(
            "steps", recipe.steps, f"with the sampler lcm at most {LCM_STEPS} make sense, 4 to 8 are usual"
        )
    if recipe.init_image and not model.image_to_image:
        raise BadRecipe("init_image", recipe.init_image, f"{model.name} cannot start from a picture: leave it out")
    if recipe.negative_prompt and unheeded(recipe.guidance_scale, model):
        why = "it counts with a guidance_scale above 1 only" if model.negative_prompts else f"{model.name} knows none"
        raise BadRecipe("negative_prompt", recipe.negative_prompt, f"{why}: leave it out")
    for field in ("prompt", "negative_prompt"):
        check_script(field, getattr(recipe, field), model)


def unheeded(scale: object, model: Model) -> bool:
    """Whether nothing would heed a negative prompt, at this scale or, where it is None, at the model's own."""
    found = model.defaults.get("guidance_scale") if scale is None else scale
    return not model.negative_prompts or (isinstance(found, int | float) and found <= 1)


def check_size(recipe: Recipe, model: Model) -> None:
    """Raise BadRecipe for a width or height that the model does not paint."""
    if model.size_range and painted_as_asked(recipe.width, recipe.height, model.size_range):
        return
    for field in ("width", "height"):
        if (side := getattr(recipe, field)) not in model.sizes:
            offered = ", ".join(map(str, model.sizes))
            if model.size_range:
                least, most, multiple = model.size_range
                offered += f", and from {least} to {most} in multiples of {multiple}"
            raise BadRecipe(field, side, f"{recipe.model} offers {offered}")
    if recipe.width != recipe.height:
        raise BadRecipe("height", recipe.height, f"{model.name} paints squares: {recipe.width} like the width")


def painted_as_asked(width: int, height: int, size_range: tuple[int, int, int]) -> bool:
    """Whether a picture is painted in this very size, not enlarged to it."""
    least, most, multiple = size_range
    return all(least <= side <= most and side % multiple == 0 for side in (width, height))


def painted_size(recipe: Recipe, side: int, size_range: tuple[int, int, int] | None) -> tuple[int, int]:
    """Height and width in which it is painted: as asked, or the model's own square, which is then enlarged."""
    as_asked = size_range is not None and painted_as_asked(recipe.width, recipe.height, size_range)
    return (recipe.height, recipe.width) if as_asked else (side, side)


def whole_adapter(given: str, model: Model) -> str:
    """NAME or NAME:WEIGHT as NAME:WEIGHT@DIGEST, which decides what is painted; raises BadRecipe."""
    if not model.adapters:
        raise BadRecipe("adapter", given, f"{model.name} has no adapters: leave it out")
    name, weight, digest = read_adapter(given)
    if name not in model.adapters:
        raise BadRecipe("adapter", given, f"{model.name} offers {', '.join(model.adapters)}")
    path = model.folder / ADAPTERS / f"{name}.safetensors"
    there = adapter_digest(path, path.stat().st_mtime_ns)
    if digest not in ("", there):
        raise BadRecipe("adapter", given, f"that file was changed since: say {name}:{weight:g} for the present one")
    return f"{name}:{weight:g}@{there}"


def read_adapter(given: str) -> tuple[str, float, str]:
    """What people write of an adapter; raises BadRecipe for a weight that is none."""
    try:
        name, weight, digest = adapter_parts(given)
    except ValueError:
        name, weight, digest = given, math.nan, ""
    least, most = WEIGHTS_OF_ADAPTERS
    if not least <= weight <= most:
        raise BadRecipe("adapter", given, f"write NAME or NAME:WEIGHT, the weight from {least:g} to {most:g}")
    return name, round(weight, 4), digest


def adapter_parts(adapter: str) -> tuple[str, float, str]:
    """The name, the weight (1 if none is said) and the digest of the file ("" if none is said); raises ValueError."""
    said, _, digest = adapter.partition("@")
    name, _, weight = said.partition(":")
    return name, float(weight or 1), digest


@lru_cache(maxsize=256)
def adapter_digest(path: Path, changed: int) -> str:
    """16 hex digits of a file, read once as long as it is unchanged."""
    return revision([path])


def with_adapters(model: Model) -> Model:
    """The model with the adapters that lie there now; they are no part of its revision."""
    if not model.adaptable:
        return model
    found = model.folder.glob(f"{ADAPTERS}/*.safetensors")
    return replace(model, adapters=tuple(sorted(path.stem for path in found)))


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
    found = (path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".zip"))
    files = sorted(path for path in found if ADAPTERS not in path.relative_to(folder).parts)
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
            size_range=as_size_range(values.get("size_range")),
            adaptable=can_use_adapters(values.get("family"), file.parent),
            image_to_image=starts_from_images(values, file.parent),
            remote=values.get("family") in REMOTE,
            negative_prompts=as_flag(values, "negative_prompts"),
            script=values.get("script", "LATIN"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSetup(f"{file} does not describe a model: {error!r}") from error


def can_use_adapters(family: str | None, folder: Path) -> bool:
    """Whether the model may be able to wear LoRA files; of a pipeline on the hub only who opens it knows."""
    index = folder / "model_index.json"
    if family != PIPELINE or not index.is_file():
        return family in (*STEPPED, PIPELINE)
    return "text_encoder" in json.loads(index.read_text())  # those that read no words cannot


def starts_from_images(values: Mapping[str, Any], folder: Path) -> bool:
    """Whether the model can start from a picture; of a pipeline on the hub model.json says what it is."""
    family, index = values.get("family", STEPPED[0]), folder / "model_index.json"
    if family != PIPELINE:
        return family in STEPPED and not values.get("labels")
    kind = json.loads(index.read_text()).get("_class_name") if index.is_file() else values.get("pipeline")
    return kind in REDRAWN


def as_flag(values: Mapping[str, Any], name: str) -> bool:
    """True unless it says false; raises ValueError for anything else."""
    if not isinstance(said := values.get(name, True), bool):
        raise ValueError(f"{name} must be true or false, not {said!r}")
    return said


def as_size_range(given: object) -> tuple[int, int, int] | None:
    """[least, most, multiple] in pixels; raises ValueError."""
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 3:
        raise ValueError(f"size_range must be [least, most, multiple of 8] in pixels, not {given!r}")
    least, most, multiple = (int(number) for number in given)
    if not 0 < least <= most or multiple <= 0 or multiple % 8:
        raise ValueError(f"size_range must be [least, most, multiple of 8] in pixels, not {given!r}")
    return least, most, multiple


def revision(files: list[Path]) -> str:
    """16 hex digits over the bytes of all weights, drawings and configurations, in the order of their names."""
    state = hashlib.blake2b(digest_size=8)
    for file in files:
        state.update(file.name.encode() + b"\0")
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):  # weights may be larger than memory
                state.update(piece)
    return state.hexdigest()
