"""What a request in AI-Horde's dialect asks for, in this server's own fields. Knows the dialect; paints nothing.

The fields are those of `POST /api/v2/generate/async` in https://github.com/Haidra-Org/AI-Horde. What only says which
volunteers may paint is passed over; what would change the picture and cannot be done here is refused by its name.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.models import WITHOUT_KARRAS, Model, unheeded
from memo import BadRecipe
from memo.recipe import check_whole
from web.picture_requests import COUNT, MEMO, MOST_PICTURES, WEBHOOK

NEGATIVE = "###"  # between what to paint and what to keep out
ANY_SEED = (None, "", -1, "-1")
SAMPLERS = {
    "k_euler": "euler",
    "k_euler_a": "euler-a",
    "k_dpmpp_2m": "dpm++2m",
    "ddim": "ddim",
    "lcm": "lcm",
}
OWN = {  # their params that are called otherwise here
    "width": "width",
    "height": "height",
    "steps": "steps",
    "cfg_scale": "guidance_scale",
}
THEIRS = {  # how our fields are called there
    **{ours: f"params.{theirs}" for theirs, ours in OWN.items()},
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
PASSED_OVER = {
    *("nsfw", "censor_nsfw", "replacement_filter", "trusted_workers", "validated_backends", "slow_workers"),
    *("extra_slow_workers", "workers", "worker_blacklist", "shared", "proxied_account", "disable_batching"),
    *("allow_downgrade", "params.facefixer_strength", "params.hires_fix_denoising_strength", "params.seed_variation"),
    *("params.control_strength", "params.denoising_strength"),
}
READ = {
    *("prompt", "params", "models", "source_image", "source_processing", "r2", "dry_run", WEBHOOK, MEMO),
    *("params.n", "params.seed", "params.sampler_name", "params.karras", "params.loras"),
    *(f"params.{name}" for name in OWN),
}
IMG2IMG = "img2img"
REFUSED: dict[str, tuple[tuple[object, ...], str]] = {  # the values that ask for nothing, and what others ask for
    "source_mask": (("",), "inpainting"),
    "extra_source_images": (([],), "second source image"),
    "style": (("",), "saved styles"),
    "source_processing": (("", IMG2IMG), "source processing but img2img"),
    "params.post_processing": (([],), "post-processing"),
    "params.control_type": (("",), "ControlNet"),
    "params.image_is_control": ((False,), "ControlNet"),
    "params.return_control_map": ((False,), "ControlNet"),
    "params.tis": (([],), "textual inversion"),
    "params.hires_fix": ((False,), "hires fix: ask for the size itself"),
    "params.tiling": ((False,), "tiling"),
    "params.transparent": ((False,), "transparency"),
    "params.clip_skip": ((0, 1), "clip skip"),
    "params.special": (({}, ""), "special field"),
    "params.workflow": (("",), "workflows"),
    "params.extra_texts": (([],), "second text"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HordeRequest:
    """A checked request. `native` is for `asking.ask`."""

    native: dict[str, Any]
    source: bytes | None = None  # the file of a picture to start from
    as_url: bool = True  # else the picture itself in base64
    dry_run: bool = False
    webhook: object = ""
    warnings: list[dict[str, str]] = field(default_factory=list)


def read_request(body: Mapping[str, Any], models: Mapping[str, Model]) -> HordeRequest:
    """Raises BadRecipe, naming the field as the request has it; what `ask` checks is left to it."""
    params = body.get("params") or {}
    if not isinstance(params, Mapping):
        raise BadRecipe("params", params, "it must be an object")
    said = {**body, **{f"params.{name}": value for name, value in params.items()}}
    values = {name: value for name, value in said.items() if value is not None}
    refuse(values)
    warnings = [warning("UnknownField", f"{name} is not known here") for name in values if not known(name)]
    sampling, doubts = sampling_of(values)
    native = {
        **words_of(values.get("prompt", "")),
        **{ours: values[f"params.{theirs}"] for theirs, ours in OWN.items() if f"params.{theirs}" in values},
        **sampling,
        **model_of(values.get("models"), models),
        **adapter_of(values.get("params.loras")),
        COUNT: count_of(values),
        **seed_of(values),
        **({MEMO: values[MEMO]} if MEMO in values else {}),
    }
    model = models[native.get("model", next(iter(models)))]
    if native["negative_prompt"] and unheeded(native.get("guidance_scale"), model):
        native["negative_prompt"] = ""
        warnings.append(warning("CfgScaleTooSmall", "nothing heeds what stands behind ### at this guidance"))
    source = file_of(values.get("source_image"))
    if source and "params.denoising_strength" in values:
        native["strength"] = values["params.denoising_strength"]
    return HordeRequest(
        native=native,
        source=source,
        as_url=flag("r2", values, True),
        dry_run=flag("dry_run", values, False),
        webhook=values.get(WEBHOOK, ""),
        warnings=[*warnings, *doubts],
    )


def known(name: str) -> bool:
    """Whether a field is one of the dialect."""
    return name in READ or name in REFUSED or name in PASSED_OVER


def warning(code: str, message: str) -> dict[str, str]:
    """As the answer lists it."""
    return {"code": code, "message": message}


def flag(name: str, values: Mapping[str, Any], usual: bool) -> bool:
    """A field that is true or false; raises BadRecipe."""
    value = values.get(name, usual)
    if not isinstance(value, bool):
        raise BadRecipe(name, value, "it must be true or false")
    return value


def refuse(values: Mapping[str, Any]) -> None:
    """Raise BadRecipe for the first field that asks for what cannot be done here."""
    for name, (harmless, what) in REFUSED.items():
        if name in values and values[name] not in harmless:
            raise BadRecipe(name, values[name], f"there is no {what} here: leave it out")


def words_of(prompt: object) -> dict[str, object]:
    """What to paint and what to keep out; raises BadRecipe."""
    if not isinstance(prompt, str):
        raise BadRecipe("prompt", prompt, "it must be text")
    wanted, _, unwanted = prompt.partition(NEGATIVE)
    return {"prompt": wanted, "negative_prompt": unwanted}


def sampling_of(values: Mapping[str, Any]) -> tuple[dict[str, object], list[dict[str, str]]]:
    """Sampler and schedule under our names, and what is not followed of them. Raises BadRecipe."""
    name, karras = values.get("params.sampler_name"), values.get("params.karras")
    sampler = SAMPLERS.get(str(name).casefold()) if name is not None else None
    if name is not None and sampler is None:
        raise BadRecipe("params.sampler_name", name, "choose one of k_euler, k_euler_a, k_dpmpp_2m, DDIM, lcm")
    if karras is not None and not isinstance(karras, bool):
        raise BadRecipe("params.karras", karras, "it must be true or false")
    native: dict[str, object] = {"sampler": sampler} if sampler else {}
    if karras and sampler in WITHOUT_KARRAS:
        return native, [warning("SchedulerMismatch", f"{name} has no karras schedule and paints with its own")]
    return native | ({} if karras is None else {"schedule": "karras" if karras else "native"}), []


def model_of(names: object, models: Mapping[str, Model]) -> dict[str, str]:
    """The first of the names that we have, or nothing when any will do; raises BadRecipe."""
    wanted = names or []
    if not isinstance(wanted, list):
        raise BadRecipe("models", names, "it must be a list of names")
    for name in wanted:
        if isinstance(name, str) and name in models:
            return {"model": name}
    if wanted:
        raise BadRecipe("models", wanted, f"choose one of {', '.join(models)}, or leave it out")
    return {}


def adapter_of(loras: object) -> dict[str, str]:
    """One LoRA file as NAME:WEIGHT, or nothing; raises BadRecipe."""
    if not loras:
        return {}
    if not isinstance(loras, list) or len(loras) != 1 or not isinstance(loras[0], Mapping):
        raise BadRecipe("params.loras", loras, "it must be a list of one object with a name")
    lora = loras[0]
    name, weight = lora.get("name"), lora.get("model", 1.0)
    if not isinstance(name, str) or not name or lora.get("is_version") or lora.get("inject_trigger"):
        raise BadRecipe("params.loras", lora, "name a file of this server, without is_version and inject_trigger")
    if not is_number(weight) or lora.get("clip", weight) not in (weight, 1, 1.0):
        raise BadRecipe("params.loras", lora, "`model` must be a number, and `clip` the same: there is one weight")
    return {"adapter": f"{name}:{weight:g}"}


def is_number(value: object) -> bool:
    """Of JSON; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def count_of(values: Mapping[str, Any]) -> int:
    """How many pictures; raises BadRecipe."""
    count = values.get("params.n", 1)
    check_whole("params.n", count, 1, MOST_PICTURES)
    return int(count)


def seed_of(values: Mapping[str, Any]) -> dict[str, int]:
    """The seed, or nothing for any. Words are a seed, too: always the same for the same words. Raises BadRecipe."""
    seed = values.get("params.seed")
    if seed in ANY_SEED:
        return {}
    if type(seed) is int or (isinstance(seed, str) and seed.isascii() and seed.isdigit() and len(seed) < 20):
        number = int(seed)
    elif isinstance(seed, str):
        number = int.from_bytes(hashlib.blake2b(seed.encode(errors="replace"), digest_size=4).digest(), "big")
    else:
        raise BadRecipe("params.seed", seed, "it must be text")
    if count_of(values) > 1 and values.get("params.seed_variation", 1) != 1:
        raise BadRecipe("params.seed_variation", values["params.seed_variation"], "seeds count up by 1: leave it out")
    return {"seed": number}


def file_of(source: object) -> bytes | None:
    """The bytes of a picture in base64, if there is one; raises BadRecipe."""
    if source in (None, ""):
        return None
    try:
        if not isinstance(source, str):
            raise ValueError("it is no text")
        return base64.b64decode("".join(source.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecipe("source_image", source, f"send the picture in base64, not its address: {error}") from error
