"""Translates a request of AUTOMATIC1111's API into the fields of the native API.

Fields and defaults are those of modules/api/models.py and modules/processing.py in
https://github.com/AUTOMATIC1111/stable-diffusion-webui, release 1.10. Fields that AUTOMATIC1111 does not know are
ignored, as it ignores them. Known fields that would change the picture in a way that this server cannot are refused.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PIL import Image

from jobs.models import WITHOUT_KARRAS, Model, ignores_negative_prompts
from memo import BadRecipe
from memo.init_image import LARGEST_KEPT
from memo.picture import A1111_SAMPLERS
from memo.recipe import read_whole
from web.json_body import to_number, to_switch
from web.picture_requests import fold_seed
from web.uploads import decode_base64, read_upload

from .alwayson_scripts import is_off, read_policy

MAX_PICTURES = 64  # of one request
LARGEST_SIDE = 4096  # px
LONGEST_TASK = 128  # characters of a task's name
ALIASES = {  # native: AUTOMATIC1111's other names of the sampler, in lower case
    "dpm++2m": ("k_dpmpp_2m",),
    "ddim": ("ddim",),
    "euler": ("k_euler",),
    "euler-a": ("k_euler_a", "k_euler_ancestral"),
    "lcm": ("k_lcm",),
}
SCHEDULERS = {"automatic": "Automatic", "karras": "Karras", "uniform": "Uniform", "normal": "Normal"}
NATIVE_SCHEDULERS = ("uniform", "normal")  # the model's own noise levels at evenly spaced times
KARRAS = " karras"  # ends some names of samplers in older releases, which had no schedulers
UPSCALERS = ("None", "Latent")  # accepted values of hr_upscaler; whatever it is, the model upscales in its own way
EXTRA_NETWORK = re.compile(r"<(lora|lyco|hypernet):([^<>]*)>", re.I)
DEFAULT_STRENGTH = 0.75
JUST_RESIZE, CROP, FILL, LATENT = range(4)  # resize_mode

DEFAULTS: dict[str, Any] = {
    "prompt": "",
    "negative_prompt": "",
    "styles": None,
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "sampler_name": None,
    "scheduler": None,
    "batch_size": 1,
    "n_iter": 1,
    "steps": None,
    "cfg_scale": None,
    "width": None,
    "height": None,
    "restore_faces": None,
    "tiling": None,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "eta": None,
    "denoising_strength": None,
    "override_settings": None,
    "override_settings_restore_afterwards": True,
    "enable_hr": False,
    "hr_scale": 2.0,
    "hr_upscaler": None,
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "force_task_id": None,
    "sampler_index": None,
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
    "init_images": None,
    "resize_mode": JUST_RESIZE,
    "mask": None,
    "include_init_images": False,
}

Refusals = dict[str, tuple[tuple[object, ...], str]]  # field: harmless values, and what other values would need
REFUSED: Refusals = {
    "styles": (([], "", "None"), "saved styles"),
    "subseed_strength": ((0,), "variation seeds"),
    "seed_resize_from_h": ((-1, 0), "seed resizing"),
    "seed_resize_from_w": ((-1, 0), "seed resizing"),
    "restore_faces": ((False,), "face restoration"),
    "tiling": ((False,), "tiling"),
    "s_min_uncond": ((0,), "skipping of negative guidance"),
    "s_churn": ((0,), "churn"),
    "s_tmin": ((0,), "churn"),
    "s_noise": ((1,), "noise multiplier"),
    "initial_noise_multiplier": ((1,), "noise multiplier"),
    "refiner_checkpoint": (("", "None"), "refiner"),
    "disable_extra_networks": ((False,), "way to ignore the LoRA files in a prompt"),
    "firstpass_image": (("",), "first pass"),
    "infotext": (("",), "way to read settings from a text"),
    "script_name": (("", "None"), "scripts"),
    "mask": (("",), "inpainting"),
    "controlnet_units": (([],), "ControlNet"),
}
REFUSED_HIRES: Refusals = {
    "hr_upscaler": (("", *UPSCALERS), f"upscaler of this name, only {' and '.join(UPSCALERS)}"),
    "hr_second_pass_steps": ((0,), "second pass"),
    "hr_checkpoint_name": (("", "Use same checkpoint"), "second pass"),
    "hr_sampler_name": (("", "Use same sampler"), "second pass"),
    "hr_scheduler": (("", "Use same scheduler"), "second pass"),
    "hr_prompt": (("",), "second pass"),
    "hr_negative_prompt": (("",), "second pass"),
    "firstphase_width": ((0,), "separate size of the first pass"),
    "firstphase_height": ((0,), "separate size of the first pass"),
}
REFUSED_SETTINGS: Refusals = {
    "CLIP_stop_at_last_layers": ((0, 1), "clip skip"),
    "sd_vae": (("", "Automatic", "None"), "choice of a VAE"),
    "sd_unet": (("", "Automatic", "None"), "choice of a UNet"),
    "sd_hypernetwork": (("", "None"), "hypernetworks"),
    "forge_additional_modules": (([],), "additional modules"),
    "eta_noise_seed_delta": ((0,), "seed offset"),
    "samples_format": (("", "png"), "file format other than PNG"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class A1111Request:
    """A checked request. `native` is the body of a native request, without the count."""

    native: dict[str, object]
    count: int
    batch_size: int
    parameters: dict[str, Any]  # the request with its defaults, to be returned in the response
    hires: bool = False  # the picture is larger than width and height say
    task: str = ""  # the client's own name for the request
    init_image: bytes | None = None  # the file of the initial image
    preferred_model: str = ""  # the model that later requests use, too; "" for no change
    notes: tuple[str, ...] = ()  # how the pictures depart from the request, in words


def read_request(
    body: Mapping[str, Any], models: Mapping[str, Model], *, preferred_model: str, img2img: bool
) -> A1111Request:
    """The checked request. `preferred_model` is the user's choice.

    Raises BadRecipe with the field's name in this dialect.
    """
    refuse(body, REFUSED)
    settings = read_mapping(body, "override_settings")
    refuse(settings, REFUSED_SETTINGS, "override_settings.")
    chosen = read_checkpoint(settings, models)
    model = chosen or models.get(preferred_model, next(iter(models.values())))
    width, height = read_size(body, model)
    seed, seed_note = read_seed(body)
    native = {
        **read_prompts(body),
        "model": model.name,
        "width": width,
        "height": height,
        "steps": read_number(body, "steps"),
        "guidance_scale": read_number(body, "cfg_scale"),
        **read_sampling(body),
        "seed": seed,
        "memo": read_policy(read_mapping(body, "alwayson_scripts")) or None,
    }
    if ignores_negative_prompts(native["guidance_scale"], model):
        native["negative_prompt"] = ""  # it has no effect in AUTOMATIC1111 either
    becomes_preferred = chosen and not read_switch(body, "override_settings_restore_afterwards")
    batch_size, count = read_counts(body)
    return A1111Request(
        native={**native, **({"strength": read_strength(body)} if img2img else {})},
        count=count,
        batch_size=batch_size,
        parameters=request_parameters(body, img2img),
        hires=read_switch(body, "enable_hr") and not img2img,
        task=read_task(body),
        init_image=read_init_images(body, width, height) if img2img else None,
        preferred_model=model.name if becomes_preferred else "",
        notes=(seed_note,) if seed_note else (),
    )


def refuse(body: Mapping[str, Any], refusals: Refusals, prefix: str = "") -> None:
    """Raise BadRecipe for the first field that asks for something that this server cannot do."""
    for field, (harmless_values, feature) in refusals.items():
        value = body.get(field)
        if value is not None and not is_harmless(value, harmless_values):
            remedy = f"this server has no {feature}: leave it out or send {harmless_values[0]!r}"
            raise BadRecipe(prefix + field, value, remedy)


def is_harmless(value: object, harmless_values: Sequence[object]) -> bool:
    """Whether a value is one of these, however it is written, or a list of them, or of units that are all off."""
    words = [word.casefold() for word in harmless_values if isinstance(word, str)]
    if isinstance(value, list):
        only_words = all(isinstance(item, str) and item.strip().casefold() in words for item in value)
        return only_words or value in harmless_values or is_off(value)
    spellings = [value, to_number(value), to_switch(value)]
    is_known = any(spelling in harmless_values for spelling in spellings)
    return is_known or (isinstance(value, str) and value.strip().casefold() in words)


def read_number(body: Mapping[str, Any], field: str, default: object = None) -> Any:
    """A number, also one sent as text, or the default for an empty field. Other values are returned unchanged."""
    value = to_number(body.get(field))
    return default if value is None or value == "" else value


def read_switch(body: Mapping[str, Any], field: str) -> bool:
    """A field that is true or false, by default as in AUTOMATIC1111; raises BadRecipe."""
    value = to_switch(DEFAULTS[field] if body.get(field) is None else body[field])
    if not isinstance(value, bool):
        raise BadRecipe(field, value, "it must be true or false")
    return value


def read_mapping(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A field that is an object, or empty; raises BadRecipe."""
    value = body.get(field) or {}
    if not isinstance(value, Mapping):
        raise BadRecipe(field, value, "it must be an object")
    return value


def checkpoint_title(model: Model) -> str:
    """The title of a checkpoint as AUTOMATIC1111 writes it: its name and the start of its hash."""
    return f"{model.name} [{model.revision[:10]}]"


def read_checkpoint(settings: Mapping[str, Any], models: Mapping[str, Model]) -> Model | None:
    """The model that the settings choose; None if they choose none. Raises BadRecipe."""
    checkpoint = settings.get("sd_model_checkpoint")
    return None if checkpoint in (None, "") else find_model(checkpoint, models)


def find_model(checkpoint: object, models: Mapping[str, Model]) -> Model:
    """The model with this title, name, file name or hash; raises BadRecipe."""
    sent = str(checkpoint).strip()
    name = sent.rpartition("[")[0].rstrip() if sent.endswith("]") else sent
    name = name.casefold().removesuffix(".safetensors").removesuffix(".ckpt")
    for model in models.values():
        if name in (model.name.casefold(), model.revision, model.revision[:10]):
            return model
    titles = ", ".join(map(checkpoint_title, models.values()))
    raise BadRecipe("sd_model_checkpoint", checkpoint, f"choose one of {titles}")


def read_size(body: Mapping[str, Any], model: Model) -> tuple[Any, Any]:
    """Width and height of the delivered picture; raises BadRecipe.

    Without `enable_hr`, values are returned as they were sent, for the native API to check.
    """
    width, height = (read_number(body, side, model.defaults[side]) for side in ("width", "height"))
    if not read_switch(body, "enable_hr"):
        return width, height
    refuse(body, REFUSED_HIRES)
    resize_x, resize_y = (read_number(body, f"hr_resize_{axis}", 0) for axis in "xy")
    scale = read_number(body, "hr_scale", DEFAULTS["hr_scale"])
    numbers = {"width": width, "height": height, "hr_resize_x": resize_x, "hr_resize_y": resize_y, "hr_scale": scale}
    for field, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST_SIDE:
            raise BadRecipe(field, value, f"it must be a number from 0 to {LARGEST_SIDE}")
    if not resize_x and not resize_y:
        return int(width * scale), int(height * scale)
    return resize_x or int(width * resize_y / max(height, 1)), resize_y or int(height * resize_x / max(width, 1))


def read_prompts(body: Mapping[str, Any]) -> dict[str, object]:
    """The prompts, and the LoRA file that the prompt names; raises BadRecipe for more than one."""
    prompt = body.get("prompt")
    if prompt is None:
        prompt = ""
    native = {"prompt": prompt, "negative_prompt": body.get("negative_prompt") or ""}
    networks = list(islice(EXTRA_NETWORK.finditer(prompt), 2)) if isinstance(prompt, str) else []
    if not networks:
        return native
    if len(networks) > 1:
        raise BadRecipe("prompt", prompt, "only one LoRA file can be used at a time: remove all but one <lora:…>")
    return {**native, "prompt": EXTRA_NETWORK.sub("", prompt), "adapter": read_adapter(*networks[0].groups())}


def read_adapter(kind: str, text: str) -> str:
    """NAME:WEIGHT from the text between < and >; raises BadRecipe."""
    name, *weights = text.split(":")
    tag = f"<{kind}:{text}>"
    if kind.lower() == "hypernet" or not name.strip():
        raise BadRecipe("prompt", tag, "this tag is not supported: remove it, or write <lora:NAME:WEIGHT>")
    numbers = {to_number(weight) for weight in weights} or {1}
    weight = numbers.pop()
    if numbers or isinstance(weight, str):
        raise BadRecipe("prompt", tag, "write <lora:NAME:WEIGHT> with one number as the weight")
    return f"{name.strip()}:{weight:g}"


def read_sampling(body: Mapping[str, Any]) -> dict[str, object]:
    """The native sampler and schedule, as far as the request names them; raises BadRecipe."""
    field = "sampler_name" if body.get("sampler_name") else "sampler_index"
    text = str(body.get(field) or "").strip()
    name = text.casefold().removesuffix(KARRAS)
    schedule = read_schedule(body.get("scheduler"))
    if schedule is None and name != text.casefold():
        schedule = "karras"
    if name in ("", "automatic"):
        return {"schedule": schedule} if schedule else {}
    for sampler, a1111_name in A1111_SAMPLERS.items():
        if name in (a1111_name.casefold(), *ALIASES[sampler]):
            return {"sampler": sampler, "schedule": schedule or ("native" if sampler in WITHOUT_KARRAS else None)}
    known = ", ".join(A1111_SAMPLERS.values())
    raise BadRecipe(field, text, f"choose one of {known}, or leave it out for the model's own")


def read_schedule(scheduler: object) -> str | None:
    """The native schedule of this name or label; None to let the server choose. Raises BadRecipe."""
    name = str(scheduler or "automatic").strip().casefold()
    if name not in SCHEDULERS:
        raise BadRecipe("scheduler", scheduler, f"choose one of {', '.join(SCHEDULERS.values())}")
    return "karras" if name == "karras" else "native" if name in NATIVE_SCHEDULERS else None


def read_seed(body: Mapping[str, Any]) -> tuple[object, str]:
    """The seed, and a note if it is folded; None for a random one, sent as -1."""
    return fold_seed(None if (value := read_number(body, "seed", -1)) == -1 else value)


def read_strength(body: Mapping[str, Any]) -> object:
    """How much of the initial image changes. txt2img has this field, too, but for its second pass."""
    return read_number(body, "denoising_strength", DEFAULT_STRENGTH)


def read_counts(body: Mapping[str, Any]) -> tuple[int, int]:
    """Pictures per batch, and in all; raises BadRecipe."""
    names = ("batch_size", "n_iter")
    batch_size, batches = (read_whole(name, read_number(body, name, 1), 1, MAX_PICTURES) for name in names)
    count = batch_size * batches
    if count > MAX_PICTURES:
        raise BadRecipe("n_iter", batches, f"batch_size times n_iter must be at most {MAX_PICTURES}, not {count}")
    return batch_size, count


def read_task(body: Mapping[str, Any]) -> str:
    """The client's own name for the request, or ""; raises BadRecipe."""
    name = body.get("force_task_id") or ""
    if not isinstance(name, str) or len(name) > LONGEST_TASK or not name.isprintable():
        raise BadRecipe("force_task_id", name, f"it must be a name of at most {LONGEST_TASK} printable characters")
    return name


def read_init_images(body: Mapping[str, Any], width: Any, height: Any) -> bytes:
    """The initial image's file, stretched to the picture's shape if the request asks for it; raises BadRecipe."""
    images = body.get("init_images")
    if not isinstance(images, list) or len(images) != 1:
        value = f"{len(images)} pictures" if isinstance(images, list) else images
        raise BadRecipe("init_images", value, "send a list of exactly one picture, in base64")
    mode = read_whole("resize_mode", read_number(body, "resize_mode", JUST_RESIZE), JUST_RESIZE, LATENT)
    try:
        png = read_upload(decode_base64("init_images", images[0]))
    except BadRecipe as error:
        raise BadRecipe("init_images", images[0], error.remedy) from error
    valid = all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in (width, height))
    if mode == CROP or not valid:
        return png  # the painter crops it; an invalid size is refused later
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if abs(image.width * height - image.height * width) <= max(image.size) * max(width, height) / 100:
            return png
        if mode == FILL:
            remedy = f"borders cannot be filled: send {JUST_RESIZE} to stretch the picture, or {CROP} to crop it"
            raise BadRecipe("resize_mode", mode, remedy)
        return stretch(image, min(width, LARGEST_KEPT), min(height, LARGEST_KEPT))


def stretch(image: Image.Image, width: int, height: int) -> bytes:
    """The picture in another size, as PNG."""
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def request_parameters(body: Mapping[str, Any], img2img: bool) -> dict[str, Any]:
    """The request with its defaults, as the response returns it: without pictures and unknown fields."""
    known = {name: body.get(name, value) for name, value in DEFAULTS.items()}
    known["send_images"] = read_switch(body, "send_images")
    if not (img2img and read_switch(body, "include_init_images")):
        known |= {"init_images": None, "mask": None}
    return known
