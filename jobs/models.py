"""The catalogue of models: which there are, what each can paint, and its defaults. Reads files, never loads torch."""

import hashlib
import json
import logging
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from memo import BadRecipe, BadSetup, Recipe, from_mapping
from memo.near import DEFAULT_STRENGTHS, LARGEST_SHARE, MIN_STRENGTH, Strengths
from memo.recipe import SAMPLERS, SCHEDULES, check_choice

log = logging.getLogger(__name__)

STEP_LOOP_FAMILIES = ("stable-diffusion", "stable-diffusion-xl")  # families that the step loop can paint with
PIPELINE = "pipeline"  # the family of every other model that diffusers has a pipeline for
IMAGE_TO_IMAGE_PIPELINES = ("StableDiffusion3Pipeline", "FluxPipeline")  # those with an image-to-image twin
REMOTE_FAMILIES = ("huggingface-inference", "bedrock")  # families whose models run on another service
CHUNK_BYTES = 2**24  # read at once
DEFAULT_SAMPLERS = tuple(name for name in SAMPLERS if name != "lcm")  # lcm needs a model distilled for it
MAX_LCM_STEPS = 50
ADAPTERS = "adapters"  # the subfolder of LoRA files
ADAPTER_WEIGHTS = (-4.0, 4.0)  # smallest and largest
MAX_ADAPTER_NAME = 170  # characters; a recipe holds 200, including the weight and digest
PUBLIC_FIELDS = (  # of a model, in the API
    *("name", "revision", "title", "licence", "sizes", "size_range", "samplers", "schedules", "defaults"),
    *("adapters", "image_to_image", "near_starts", "negative_prompts"),
)
FORMER_FIELDS = {"span": "size_range", "negatives": "negative_prompts", "least_gib": "min_gib"}  # of model.json
IGNORED_SYMBOLS = "°™©®℠℃℉№^`´¨¯¸˚¦"  # symbols that are allowed in a prompt, although models ignore them
WITHOUT_KARRAS = ("ddim", "lcm")  # samplers that do not place their steps by sigmas


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One folder of weights. `sizes` are the sides in pixels of the square pictures it paints.

    With `size_range` (least, most, multiple) it also paints any width and height from `least` to `most` that are
    multiples of `multiple`.
    """

    name: str
    revision: str  # 16 hex digits of the weights
    title: str
    licence: str
    folder: Path
    sizes: tuple[int, ...]
    defaults: Mapping[str, Any]
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS
    schedules: tuple[str, ...] = SCHEDULES
    size_range: tuple[int, int, int] | None = None
    adaptable: bool = False  # whether it can use LoRA files
    adapters: tuple[str, ...] = ()  # names of its LoRA files
    image_to_image: bool = False  # whether it can start from a picture
    near_strengths: Strengths = ()  # for starts from similar pictures; if empty, it always paints from noise
    remote: bool = False  # whether another service paints
    negative_prompts: bool = True  # whether it supports negative prompts
    script: str = "LATIN"  # the only script its text encoder reads; "" = any

    @property
    def near_starts(self) -> bool:
        """Whether it starts from similar pictures under the memory policy `near`."""
        return bool(self.near_strengths)


class Catalogue:
    """The models of a folder, read again at each call, so that a new model needs no restart.

    `models`, `recipe` and `to_dicts` raise BadSetup if the folder has no usable model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logged: set[str] = set()  # faults that were logged already

    def models(self) -> dict[str, Model]:
        """All models by name, the default one first; raises BadSetup if there are none.

        A model that cannot be read is logged and left out, so that the others can be used.
        """
        models, faults = self.read()
        if not models:
            remedy = "add a subfolder with a model.json, or run `memoaized model add`"
            raise BadSetup("; ".join(faults.values()) or f"there is no model in {self.folder}: {remedy}")
        for fault in faults.values():
            if fault not in self.logged:
                log.error("%s; this model is left out", fault)
                self.logged.add(fault)
        return models

    def check(self) -> None:
        """Raise BadSetup naming every model.json that cannot be read; called before work begins."""
        if faults := self.read()[1]:
            raise BadSetup("; ".join(faults.values()))

    def read(self) -> tuple[dict[str, Model], dict[str, str]]:
        """All models by name, the default one first, and the faults of the others by folder name."""
        models, faults = [], {}
        for file in sorted(self.folder.glob("[!.]*/model.json")):  # folders with a dot are being replaced
            try:
                models.append(self.with_adapters(read_model(file, fingerprint(file.parent))))
            except (BadSetup, OSError) as error:  # OSError: files may vanish meanwhile
                faults[file.parent.name] = str(error)
        models.sort(key=lambda model: (model.name != "stickers", model.name))
        return {model.name: model for model in models}, faults

    def with_adapters(self, model: Model) -> Model:
        """The model with the usable adapters in its folder; logs why others are not offered.

        They do not belong to its revision.
        """
        if not model.adaptable:
            return model
        names = []
        for path in sorted(model.folder.glob(f"{ADAPTERS}/*.safetensors")):
            if not (fault := adapter_fault(path)):
                names.append(path.stem)
            elif str(path) not in self.logged:
                log.warning("the adapter %s is not offered: %s", path, fault)
                self.logged.add(str(path))
        return replace(model, adapters=tuple(names))

    def model(self, name: str) -> Model:
        """The model of this name; raises BadSetup if it cannot be read, BadRecipe if there is none."""
        models, faults = self.read()
        if name not in models and name in faults:
            raise BadSetup(faults[name])
        check_choice("model", name, tuple(models))
        return models[name]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The public fields of each model, JSON-able, the default one first."""
        return [{name: getattr(model, name) for name in PUBLIC_FIELDS} for model in self.models().values()]

    def recipe(self, fields: Mapping[str, object]) -> Recipe:
        """The recipe with these fields and the model's defaults; raises BadRecipe for what the model cannot paint."""
        models = self.models()
        name = fields.get("model", next(iter(models)))
        check_choice("model", name, tuple(models))
        model = models[str(name)]
        recipe = from_mapping({**model.defaults, **fields, "model": name, "revision": model.revision})
        check_recipe(recipe, model)
        return replace(recipe, adapter=complete_adapter(recipe.adapter, model)) if recipe.adapter else recipe


def check_recipe(recipe: Recipe, model: Model) -> None:
    """Raise BadRecipe for what this model cannot paint."""
    check_size(recipe, model)
    check_offered("sampler", recipe, model.samplers)
    check_offered("schedule", recipe, model.schedules)
    if recipe.schedule == "karras" and recipe.sampler in WITHOUT_KARRAS:
        raise BadRecipe("schedule", recipe.schedule, f"the sampler {recipe.sampler} only has the schedule native")
    if recipe.sampler == "lcm" and recipe.steps > MAX_LCM_STEPS:
        raise BadRecipe(
            "steps", recipe.steps, f"the sampler lcm takes at most {MAX_LCM_STEPS} steps; 4 to 8 are usual"
        )
    if recipe.init_image and not model.image_to_image:
        raise BadRecipe("init_image", recipe.init_image, f"{model.name} cannot start from a picture: leave it out")
    if recipe.negative_prompt and ignores_negative_prompts(recipe.guidance_scale, model):
        remedy = "it has an effect only with a guidance_scale above 1: raise that, or leave it out"
        if not model.negative_prompts:
            remedy = f"{model.name} supports none: leave it out"
        raise BadRecipe("negative_prompt", recipe.negative_prompt, remedy)
    for field in ("prompt", "negative_prompt"):
        check_script(field, getattr(recipe, field), model)


def ignores_negative_prompts(scale: object, model: Model) -> bool:
    """Whether a negative prompt has no effect at this guidance scale, or at the model's default for None."""
    effective = model.defaults.get("guidance_scale") if scale is None else scale
    return not model.negative_prompts or (isinstance(effective, int | float) and effective <= 1)


def check_size(recipe: Recipe, model: Model) -> None:
    """Raise BadRecipe for a width or height that the model does not paint."""
    if model.size_range and paints_exact_size(recipe.width, recipe.height, model.size_range):
        return
    for field in ("width", "height"):
        if (side := getattr(recipe, field)) not in model.sizes:
            offered = ", ".join(map(str, model.sizes))
            if model.size_range:
                least, most, multiple = model.size_range
                offered += f", and from {least} to {most} in multiples of {multiple}"
            raise BadRecipe(field, side, f"{recipe.model} offers {offered}")
    if recipe.width != recipe.height:
        raise BadRecipe("height", recipe.height, f"{model.name} paints squares: use {recipe.width}, like the width")


def paints_exact_size(width: int, height: int, size_range: tuple[int, int, int]) -> bool:
    """Whether the model paints this size directly instead of enlarging a square."""
    least, most, multiple = size_range
    return all(least <= side <= most and side % multiple == 0 for side in (width, height))


def painted_size(recipe: Recipe, side: int, size_range: tuple[int, int, int] | None) -> tuple[int, int]:
    """Height and width that the network paints: the recipe's, or the model's square, which is then enlarged."""
    is_exact = size_range is not None and paints_exact_size(recipe.width, recipe.height, size_range)
    return (recipe.height, recipe.width) if is_exact else (side, side)


def complete_adapter(adapter: str, model: Model) -> str:
    """Complete NAME or NAME:WEIGHT to NAME:WEIGHT@DIGEST, which names the exact file; raises BadRecipe."""
    if not model.adapters:
        raise BadRecipe("adapter", adapter, f"{model.name} has no adapters: leave it out")
    name, weight, digest = read_adapter(adapter)
    if name not in model.adapters:
        raise BadRecipe("adapter", adapter, f"{model.name} offers {', '.join(model.adapters)}")
    path = model.folder / ADAPTERS / f"{name}.safetensors"
    try:
        actual = adapter_digest(path, path.stat().st_mtime_ns)
    except OSError as error:  # it was removed meanwhile, or a disk fails
        raise BadRecipe("adapter", adapter, f"its file cannot be read: {error.strerror}") from error
    if digest not in ("", actual):
        remedy = f"its file has changed since: use {name}:{weight:g} for the present one"
        raise BadRecipe("adapter", adapter, remedy)
    return f"{name}:{weight:g}@{actual}"


def read_adapter(adapter: str) -> tuple[str, float, str]:
    """Name, weight and digest of an adapter as users write it; raises BadRecipe for an unusable weight."""
    try:
        name, weight, digest = split_adapter(adapter)
    except ValueError:
        name, weight, digest = adapter, math.nan, ""
    least, most = ADAPTER_WEIGHTS
    if not least <= weight <= most:
        raise BadRecipe("adapter", adapter, f"write NAME or NAME:WEIGHT, the weight from {least:g} to {most:g}")
    return name, round(weight, 4), digest


def split_adapter(adapter: str) -> tuple[str, float, str]:
    """Name, weight (1 by default) and digest ("" by default) of NAME:WEIGHT@DIGEST; raises ValueError."""
    named, _, digest = adapter.partition("@")
    name, _, weight = named.partition(":")
    return name, float(weight or 1), digest


@lru_cache(maxsize=256)
def adapter_digest(path: Path, modified_ns: int) -> str:
    """16 hex digits of a file's hash, cached until its time of modification changes."""
    return revision([path])


def adapter_fault(path: Path) -> str:
    """Why a file cannot be used as an adapter, with the fix; "" if it can."""
    name = path.stem
    if not path.is_file():
        return "the link leads nowhere" if path.is_symlink() else "it is not a file"
    if not os.access(path, os.R_OK):
        return "this process may not read it"
    if name.startswith("."):
        return "its name begins with a dot, like companion files of macOS"
    if name != name.strip() or not name.isprintable() or {"@", ":"} & set(name):
        return "rename it: its name must not contain @, colons, invisible characters, or blanks at its start or end"
    if len(name) > MAX_ADAPTER_NAME:
        return f"rename it: a name has at most {MAX_ADAPTER_NAME} characters, not {len(name)}"
    return ""


def check_offered(field: str, recipe: Recipe, choices: Sequence[object]) -> None:
    """Raise BadRecipe unless the model offers the value of this field."""
    if (value := getattr(recipe, field)) not in choices:
        raise BadRecipe(field, value, f"{recipe.model} offers {', '.join(map(str, choices))}")


def check_script(field: str, text: str, model: Model) -> None:
    """Raise BadRecipe for letters and symbols that the model's text encoder would ignore."""
    if not model.script:
        return
    for character in text:
        if unicodedata.category(character) in ("So", "Sk", "Cn", "Co", "Cf") and character not in IGNORED_SYMBOLS:
            name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
            raise BadRecipe(field, text, f"{model.name} reads words, not symbols: write {name!r} instead")
        if character.isalpha() and not unicodedata.name(character, "").startswith(model.script):
            script = model.script.capitalize()
            remedy = f"{model.name} reads English in {script} letters: translate the text from {character!r} on"
            raise BadRecipe(field, text, remedy)


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a model's files: equal as long as no file changes."""
    relevant = (path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".zip"))
    files = sorted(path for path in relevant if ADAPTERS not in path.relative_to(folder).parts)
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


@lru_cache(maxsize=64)
def read_model(file: Path, files: tuple[tuple[str, int, int], ...]) -> Model:
    """The model that a model.json describes, cached until its files change (`files`, see `fingerprint`).

    Raises BadSetup naming the file and the fault.
    """
    try:
        values = json.loads(file.read_text())
        check_field_names(values)
        return Model(
            name=values["name"],
            revision=revision([Path(name) for name, _, _ in files]),
            title=values["title"],
            licence=values["licence"],
            folder=file.parent,
            sizes=tuple(values["sizes"]),
            defaults={"width": 256, "height": 256, **values["defaults"]},
            samplers=tuple(values.get("samplers", DEFAULT_SAMPLERS)),
            schedules=tuple(values.get("schedules", SCHEDULES)),
            size_range=read_size_range(values.get("size_range")),
            adaptable=can_use_adapters(values.get("family"), file.parent),
            image_to_image=starts_from_images(values, file.parent),
            near_strengths=read_near_strengths(values, file.parent),
            remote=values.get("family") in REMOTE_FAMILIES,
            negative_prompts=read_flag(values, "negative_prompts"),
            script=values.get("script", "LATIN"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSetup(f"{file} does not describe a model: {error!r}") from error


def check_field_names(values: Mapping[str, Any]) -> None:
    """Raise ValueError for a field under its former name, which would otherwise be ignored."""
    for old, new in FORMER_FIELDS.items():
        if old in values:
            raise ValueError(f"the field {old} is now called {new}: rename it")


def can_use_adapters(family: str | None, folder: Path) -> bool:
    """Whether the model may use LoRA files; for a pipeline on the hub that is known only when it is loaded."""
    index = folder / "model_index.json"
    if family != PIPELINE or not index.is_file():
        return family in (*STEP_LOOP_FAMILIES, PIPELINE)
    return "text_encoder" in json.loads(index.read_text())  # pipelines without a text encoder cannot


def starts_from_images(values: Mapping[str, Any], folder: Path) -> bool:
    """Whether the model can start from a picture; model.json names the pipeline of a model on the hub."""
    family, index = values.get("family", STEP_LOOP_FAMILIES[0]), folder / "model_index.json"
    if family != PIPELINE:
        return family in STEP_LOOP_FAMILIES and not values.get("labels")
    kind = json.loads(index.read_text()).get("_class_name") if index.is_file() else values.get("pipeline")
    return kind in IMAGE_TO_IMAGE_PIPELINES


def read_near_strengths(values: Mapping[str, Any], folder: Path) -> Strengths:
    """Read the field `near`, or return the default. Raises ValueError.

    By default, models that paint over drawings do not start from other pictures: traces of these would remain
    (docs/judge.md).
    """
    if not starts_from_images(values, folder):
        return ()
    written = values.get("near", () if (folder / "sprites").is_dir() else DEFAULT_STRENGTHS)
    strengths = tuple((float(share), float(strength)) for share, strength in written)
    shares = [share for share, _ in strengths]
    if not all(0 <= share <= LARGEST_SHARE and MIN_STRENGTH <= strength < 1 for share, strength in strengths):
        raise ValueError(f"shares are 0 to {LARGEST_SHARE}, strengths {MIN_STRENGTH} to below 1, not {strengths}")
    if shares != sorted(shares, reverse=True):
        raise ValueError(f"near must begin with the highest share, not {strengths}")
    return strengths


def read_flag(values: Mapping[str, Any], name: str) -> bool:
    """A field that is true by default; raises ValueError unless it is true or false."""
    if not isinstance(flag := values.get(name, True), bool):
        raise ValueError(f"{name} must be true or false, not {flag!r}")
    return flag


def read_size_range(value: object) -> tuple[int, int, int] | None:
    """(least, most, multiple) in pixels; None for no range. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"size_range must be [least, most, multiple of 8] in pixels, not {value!r}")
    least, most, multiple = (int(number) for number in value)
    if not 0 < least <= most or multiple <= 0 or multiple % 8:
        raise ValueError(f"size_range must be [least, most, multiple of 8] in pixels, not {value!r}")
    return least, most, multiple


def revision(files: list[Path]) -> str:
    """16 hex digits over the bytes of all weights, drawings and configurations, in the order of their names."""
    state = hashlib.blake2b(digest_size=8)
    for file in files:
        state.update(file.name.encode() + b"\0")
        with file.open("rb") as opened:
            while piece := opened.read(CHUNK_BYTES):  # weights may be larger than memory
                state.update(piece)
    return state.hexdigest()
