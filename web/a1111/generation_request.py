"""Translates a request of AUTOMATIC1111's API into the fields of the native API.

Fields and defaults are those of modules/api/models.py and modules/processing.py in
https://github.com/AUTOMATIC1111/stable-diffusion-webui, release 1.10. Fields that AUTOMATIC1111 does not know are
ignored, as it ignores them. Known fields that would change the picture in a way that this server cannot are refused.
"""

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PIL import Image

from jobs.models import WITHOUT_KARRAS, Model, ignores_negative_prompts
from memo import BadRecipe
from memo.init_image import LARGEST_KEPT, read_init_image
from memo.picture import A1111_SAMPLERS
from memo.recipe import check_whole

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
SCRIPT = "memoaized"  # the script whose argument is the memory policy
EXTRA_NETWORK = re.compile(r"<(lora|lyco|hypernet):([^<>]*)>", re.I)
DATA_URL = re.compile(r"data:[\w/.+-]*;base64,", re.I)
WHITE_SPACE = b" \t\r\n"
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
    "styles": (([], ""), "saved styles"),
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


def read_request(
    body: Mapping[str, Any], models: Mapping[str, Model], *, preferred_model: str, policy: str, img2img: bool
) -> A1111Request:
    """The checked request. `preferred_model` is the user's choice, `policy` the default memory policy.

    Raises BadRecipe with the field's name in this dialect.
    """
    refuse(body, REFUSED)
    settings = read_mapping(body, "override_settings")
    refuse(settings, REFUSED_SETTINGS, "override_settings.")
    checkpoint = settings.get("sd_model_checkpoint") or ""
    default = models.get(preferred_model, next(iter(models.values())))
    model = find_model(checkpoint, models) if checkpoint else default
    width, height = read_size(body, model)
    native = {
        **read_prompts(body),
        "model": model.name,
        "width": width,
        "height": height,
        "steps": to_number(body.get("steps")),
        "guidance_scale": to_number(body.get("cfg_scale")),
        **read_sampling(body),
        "seed": read_seed(body),
        "memo": read_policy(body) or policy or None,
    }
    if ignores_negative_prompts(native["guidance_scale"], model):
        native["negative_prompt"] = ""  # it has no effect in AUTOMATIC1111 either
    becomes_preferred = checkpoint and body.get("override_settings_restore_afterwards") is False
    batch_size, count = read_counts(body)
    return A1111Request(
        native={**native, **({"strength": read_strength(body)} if img2img else {})},
        count=count,
        batch_size=batch_size,
        parameters=request_parameters(body, img2img),
        hires=bool(body.get("enable_hr")) and not img2img,
        task=read_task(body),
        init_image=read_init_images(body, width, height) if img2img else None,
        preferred_model=model.name if becomes_preferred else "",
    )


def refuse(body: Mapping[str, Any], refusals: Refusals, prefix: str = "") -> None:
    """Raise BadRecipe for the first field that asks for something that this server cannot do."""
    for field, (harmless_values, feature) in refusals.items():
        value = to_number(body.get(field))
        if value is not None and value not in harmless_values:
            remedy = f"this server has no {feature}: leave it out or send {harmless_values[0]!r}"
            raise BadRecipe(prefix + field, value, remedy)


def read_mapping(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A field that is an object, or empty; raises BadRecipe."""
    value = body.get(field) or {}
    if not isinstance(value, Mapping):
        raise BadRecipe(field, value, "it must be an object")
    return value


def checkpoint_title(model: Model) -> str:
    """The title of a checkpoint as AUTOMATIC1111 writes it: its name and the start of its hash."""
    return f"{model.name} [{model.revision[:10]}]"


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
    sides = {side: to_number(body.get(side)) for side in ("width", "height")}
    width, height = (model.defaults[side] if value is None else value for side, value in sides.items())
    if not body.get("enable_hr"):
        return width, height
    refuse(body, REFUSED_HIRES)
    resize_x, resize_y = (to_number(body.get(f"hr_resize_{axis}")) or 0 for axis in "xy")
    scale = to_number(body.get("hr_scale", DEFAULTS["hr_scale"]))
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
        raise BadRecipe("prompt", tag, "only <lora:NAME:WEIGHT> is supported: remove it")
    weight = to_number(weights[0]) if len(weights) == 1 else 1.0
    if len(weights) > 1 or isinstance(weight, str) or not math.isfinite(weight):
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


def read_seed(body: Mapping[str, Any]) -> object:
    """The seed; None for a random one, sent as -1."""
    value = to_number(body.get("seed"))
    return None if value in (-1, "") else value


def read_strength(body: Mapping[str, Any]) -> object:
    """How much of the initial image changes. txt2img has this field, too, but for its second pass."""
    value = to_number(body.get("denoising_strength"))
    return DEFAULT_STRENGTH if value is None else value


def read_counts(body: Mapping[str, Any]) -> tuple[int, int]:
    """Pictures per batch, and in all; raises BadRecipe."""
    batch_size, batches = (to_number(body.get(name, 1)) for name in ("batch_size", "n_iter"))
    for name, value in (("batch_size", batch_size), ("n_iter", batches)):
        check_whole(name, value, 1, MAX_PICTURES)
    count = int(batch_size) * int(batches)
    if count > MAX_PICTURES:
        raise BadRecipe("n_iter", batches, f"batch_size times n_iter must be at most {MAX_PICTURES}, not {count}")
    return int(batch_size), count


def read_policy(body: Mapping[str, Any]) -> object:
    """The memory policy, sent as the argument of a script; None without one.

    Raises BadRecipe for any other script that is switched on.
    """
    policy: object = None
    for name, values in read_mapping(body, "alwayson_scripts").items():
        arguments = values.get("args", []) if isinstance(values, Mapping) else values
        arguments = arguments if isinstance(arguments, list) else [arguments]
        if name.casefold() == SCRIPT:
            policies = [arg["memo"] for arg in arguments if isinstance(arg, Mapping) and arg.get("memo")]
            policy = policies[0] if policies else None
        elif not is_off(arguments):
            raise BadRecipe(f"alwayson_scripts.{name}", "on", "this server has no such extension: switch it off")
    return policy


def is_off(arguments: list[object]) -> bool:
    """Whether a script does nothing with these arguments."""
    units = [unit for unit in arguments if isinstance(unit, Mapping)]
    off = [unit.get("enabled", unit.get("enable", True)) is False for unit in units]
    return not arguments or arguments[0] in (False, None) or (len(units) == len(arguments) and all(off))


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
    mode = to_number(body.get("resize_mode", JUST_RESIZE))
    check_whole("resize_mode", mode, JUST_RESIZE, LATENT)
    try:
        png = read_init_image(decode_image("init_images", images[0]))
    except BadRecipe as error:
        raise BadRecipe("init_images", images[0], error.remedy) from error
    valid = all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in (width, height))
    if mode == CROP or not valid:
        return png  # the painter crops it; an invalid size is refused later
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if abs(image.width * height - image.height * width) <= max(image.size) * max(width, height) / 100:
            return png
        if mode == FILL:
            raise BadRecipe(
                "resize_mode",
                mode,
                f"borders cannot be filled: send 0 to stretch it, {CROP} to crop it",
            )
        return stretch(image, min(width, LARGEST_KEPT), min(height, LARGEST_KEPT))


def stretch(image: Image.Image, width: int, height: int) -> bytes:
    """The picture in another size, as PNG."""
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def decode_image(field: str, text: object) -> bytes:
    """The bytes of a file in base64, with or without the start of a data URL; raises BadRecipe."""
    if not isinstance(text, str) or not text:
        raise BadRecipe(field, text, "send a picture in base64")
    start = DATA_URL.match(text)
    try:
        return decode_base64(text[start.end() :] if start else text)
    except (binascii.Error, ValueError) as error:
        raise BadRecipe(field, text[:40], f"send a picture in base64, not its address: {error}") from error


def decode_base64(text: str) -> bytes:
    """The bytes in base64, which may have line breaks; raises ValueError."""
    return base64.b64decode(text.encode("ascii").translate(None, WHITE_SPACE), validate=True)


def to_number(value: Any) -> Any:
    """Text as the number that it contains, and 2.0 as 2; anything else unchanged."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,20}(\.\d{0,20})?\s*", value):
        value = float(value) if "." in value else int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def request_parameters(body: Mapping[str, Any], img2img: bool) -> dict[str, Any]:
    """The request with its defaults, as the response returns it: without pictures and unknown fields."""
    known = {name: body.get(name, value) for name, value in DEFAULTS.items()}
    if not (img2img and body.get("include_init_images") is True):
        known |= {"init_images": None, "mask": None}
    return known
