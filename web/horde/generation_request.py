"""Translates a request of AI-Horde's API into the fields of the native API.

The fields are those of `POST /api/v2/generate/async` in https://github.com/Haidra-Org/AI-Horde. Fields that
only choose among volunteers are ignored; fields that would change the picture in a way that this server cannot are
refused.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.models import WITHOUT_KARRAS, Model, ignores_negative_prompts
from memo import BadRecipe
from memo.errors import shorten
from memo.recipe import read_whole
from web.json_body import to_number, to_switch
from web.picture_requests import COUNT, MAX_PICTURES, MEMO, WEBHOOK, fold_seed
from web.uploads import decode_base64

NEGATIVE = "###"  # separates the prompt from the negative prompt
MAX_WARNINGS = 10  # of unknown fields in one answer
LARGEST_WEIGHT = 1000  # of a LoRA file; the native API allows only much smaller ones
ANY_SEED = (None, -1)
SAMPLERS = {
    "k_euler": "euler",
    "k_euler_a": "euler-a",
    "k_dpmpp_2m": "dpm++2m",
    "ddim": "ddim",
    "lcm": "lcm",
}
PARAMS = {  # dialect: native
    "width": "width",
    "height": "height",
    "steps": "steps",
    "cfg_scale": "guidance_scale",
}
DIALECT_NAMES = {  # native: dialect
    **{native_name: f"params.{name}" for name, native_name in PARAMS.items()},
    "sampler": "params.sampler_name",
    "schedule": "params.karras",
    "seed": "params.seed",
    "adapter": "params.loras",
    "strength": "params.denoising_strength",
    "count": "params.n",
    "model": "models",
    "negative_prompt": "prompt",
    "image": "source_image",
    "init_image": "source_image",
}
IGNORED = {
    *("nsfw", "censor_nsfw", "replacement_filter", "trusted_workers", "validated_backends", "slow_workers"),
    *("extra_slow_workers", "workers", "worker_blacklist", "shared", "proxied_account", "disable_batching"),
    *("allow_downgrade", "params.facefixer_strength", "params.hires_fix_denoising_strength", "params.seed_variation"),
    *("params.control_strength", "params.denoising_strength"),
}
HANDLED = {
    *("prompt", "params", "models", "source_image", "source_processing", "r2", "dry_run", WEBHOOK, MEMO),
    *("params.n", "params.seed", "params.sampler_name", "params.karras", "params.loras"),
    *(f"params.{name}" for name in PARAMS),
}
IMG2IMG = "img2img"
REFUSED: dict[str, tuple[tuple[object, ...], str]] = {  # harmless values, and what other values would need
    "source_mask": (("",), "inpainting"),
    "extra_source_images": (([],), "second source image"),
    "style": (("",), "saved styles"),
    "source_processing": (("", IMG2IMG), "source processing other than img2img"),
    "params.post_processing": (([],), "post-processing"),
    "params.control_type": (("",), "ControlNet"),
    "params.image_is_control": ((False,), "ControlNet"),
    "params.return_control_map": ((False,), "ControlNet"),
    "params.tis": (([],), "textual inversion"),
    "params.hires_fix": ((False,), "hires fix (send the final size as width and height)"),
    "params.tiling": ((False,), "tiling"),
    "params.transparent": ((False,), "transparency"),
    "params.clip_skip": ((0, 1), "clip skip"),
    "params.special": (({}, ""), "special settings"),
    "params.workflow": (("",), "workflows"),
    "params.extra_texts": (([],), "extra texts"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HordeRequest:
    """A checked request. `native` is the body of a native request."""

    native: dict[str, Any]
    source: bytes | None = None  # the file of the initial image
    as_url: bool = True  # False: the picture itself in base64
    dry_run: bool = False
    webhook: object = ""
    warnings: list[dict[str, str]] = field(default_factory=list)


def read_request(body: Mapping[str, Any], models: Mapping[str, Model]) -> HordeRequest:
    """The checked request; raises BadRecipe with the field's name in this dialect.

    Values that the native API checks are left to it.
    """
    params = body.get("params") or {}
    if not isinstance(params, Mapping):
        raise BadRecipe("params", params, "it must be an object")
    flat = {**body, **{f"params.{name}": value for name, value in params.items()}}
    values = {name: value for name, value in flat.items() if value is not None and (value != "" or name == "prompt")}
    refuse(values)
    warnings = warn_of_unknown([name for name in values if not is_known(name)])
    sampling, sampling_warnings = read_sampling(values)
    seed, seed_warnings = read_seed(values)
    native = {
        **split_prompt(values.get("prompt", "")),
        **{
            native_name: to_number(values[f"params.{name}"])
            for name, native_name in PARAMS.items()
            if f"params.{name}" in values
        },
        **sampling,
        **find_model(values.get("models"), models),
        **read_adapter(values.get("params.loras")),
        COUNT: read_count(values),
        **seed,
        **({MEMO: values[MEMO]} if MEMO in values else {}),
    }
    model = models[native.get("model", next(iter(models)))]
    if native["negative_prompt"] and ignores_negative_prompts(native.get("guidance_scale"), model):
        native["negative_prompt"] = ""
        warnings.append(warning("CfgScaleTooSmall", "at this cfg_scale the negative prompt after ### has no effect"))
    source = read_source_image(values.get("source_image"))
    if source and "params.denoising_strength" in values:
        native["strength"] = to_number(values["params.denoising_strength"])
    return HordeRequest(
        native=native,
        source=source,
        as_url=read_flag("r2", values, True),
        dry_run=read_flag("dry_run", values, False),
        webhook=values.get(WEBHOOK, ""),
        warnings=[*warnings, *sampling_warnings, *seed_warnings],
    )


def is_known(name: str) -> bool:
    """Whether the dialect has this field."""
    return name in HANDLED or name in REFUSED or name in IGNORED


def warn_of_unknown(names: Sequence[str]) -> list[dict[str, str]]:
    """Warnings of unknown fields: the first by name, and the number of the others."""
    warnings = [
        warning("UnknownField", f"the field {shorten(name)} is not known here and is ignored")
        for name in names[:MAX_WARNINGS]
    ]
    if (more := len(names) - MAX_WARNINGS) > 0:
        warnings.append(warning("UnknownField", f"{more} more fields are not known here and are ignored"))
    return warnings


def warning(code: str, message: str) -> dict[str, str]:
    """A warning as the response lists it."""
    return {"code": code, "message": message}


def read_flag(name: str, values: Mapping[str, Any], default: bool) -> bool:
    """A boolean field; raises BadRecipe."""
    value = to_switch(values.get(name, default))
    if not isinstance(value, bool):
        raise BadRecipe(name, value, "it must be true or false")
    return value


def refuse(values: Mapping[str, Any]) -> None:
    """Raise BadRecipe for the first field that asks for something that this server cannot do."""
    for name, (harmless_values, feature) in REFUSED.items():
        if name in values and values[name] not in harmless_values and to_switch(values[name]) not in harmless_values:
            raise BadRecipe(name, values[name], f"this server has no {feature}: leave it out")


def split_prompt(prompt: object) -> dict[str, object]:
    """Prompt and negative prompt; raises BadRecipe."""
    if not isinstance(prompt, str):
        raise BadRecipe("prompt", prompt, "it must be text")
    positive, _, negative = prompt.partition(NEGATIVE)
    return {"prompt": positive, "negative_prompt": negative}


def read_sampling(values: Mapping[str, Any]) -> tuple[dict[str, object], list[dict[str, str]]]:
    """The native sampler and schedule, and warnings about what is ignored; raises BadRecipe."""
    name, karras = values.get("params.sampler_name"), to_switch(values.get("params.karras"))
    sampler = SAMPLERS.get(str(name).casefold()) if name is not None else None
    if name is not None and sampler is None:
        raise BadRecipe("params.sampler_name", name, "choose one of k_euler, k_euler_a, k_dpmpp_2m, DDIM, lcm")
    if karras is not None and not isinstance(karras, bool):
        raise BadRecipe("params.karras", karras, "it must be true or false")
    native: dict[str, object] = {"sampler": sampler} if sampler else {}
    if karras and sampler in WITHOUT_KARRAS:
        return native, [warning("SchedulerMismatch", f"{name} has no karras schedule: its own is used")]
    return native | ({} if karras is None else {"schedule": "karras" if karras else "native"}), []


def find_model(names: object, models: Mapping[str, Model]) -> dict[str, str]:
    """The first of these models that is available, or nothing if any will do; raises BadRecipe."""
    names = names or []
    if not isinstance(names, list):
        raise BadRecipe("models", names, "it must be a list of names")
    for name in names:
        if isinstance(name, str) and name in models:
            return {"model": name}
    if names:
        raise BadRecipe("models", names, f"choose one of {', '.join(models)}, or leave it out")
    return {}


def read_adapter(loras: object) -> dict[str, str]:
    """A LoRA file as NAME:WEIGHT, or nothing; raises BadRecipe."""
    if not loras:
        return {}
    if not isinstance(loras, list) or len(loras) != 1 or not isinstance(loras[0], Mapping):
        raise BadRecipe("params.loras", loras, "it must be a list of one object with a name")
    lora = loras[0]
    name, weight = lora.get("name"), to_number(lora.get("model", 1.0))
    if not isinstance(name, str) or not name or lora.get("is_version") or lora.get("inject_trigger"):
        raise BadRecipe(
            "params.loras", lora, "name a file of this server, and leave out is_version and inject_trigger"
        )
    valid = isinstance(weight, int | float) and not isinstance(weight, bool) and abs(weight) < LARGEST_WEIGHT
    if not valid or to_number(lora.get("clip", weight)) not in (weight, 1):
        raise BadRecipe("params.loras", lora, "`model` must be a number, and `clip` the same number")
    return {"adapter": f"{name}:{weight:g}"}


def read_count(values: Mapping[str, Any]) -> int:
    """The number of pictures; raises BadRecipe."""
    return read_whole("params.n", to_number(values.get("params.n", 1)), 1, MAX_PICTURES)


def read_seed(values: Mapping[str, Any]) -> tuple[dict[str, object], list[dict[str, str]]]:
    """The seed, or nothing for a random one, and a warning if it is folded; raises BadRecipe."""
    seed = to_number(values.get("params.seed"))
    if seed in ANY_SEED:
        return {}, []
    if read_count(values) > 1 and to_number(values.get("params.seed_variation", 1)) != 1:
        raise BadRecipe("params.seed_variation", values["params.seed_variation"], "seeds count up by 1: leave it out")
    number, note = fold_seed(hash_text(seed) if isinstance(seed, str) else seed)
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadRecipe("params.seed", seed, "it must be text or a whole number")
    return {"seed": number}, [warning("SeedTooLarge", note)] if note else []


def hash_text(seed: str) -> int:
    """A seed of 32 bits, the same one for the same text."""
    return int.from_bytes(hashlib.blake2b(seed.encode(errors="replace"), digest_size=4).digest(), "big")


def read_source_image(source: object) -> bytes | None:
    """The bytes of a picture in base64; None if there is none. Raises BadRecipe."""
    return None if source is None else decode_base64("source_image", source)
