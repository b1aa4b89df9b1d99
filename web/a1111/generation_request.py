"""What a request in AUTOMATIC1111's dialect asks for, in this server's own fields. Knows the dialect; paints nothing.

Fields and defaults are those of modules/api/models.py and modules/processing.py in
https://github.com/AUTOMATIC1111/stable-diffusion-webui, release 1.10. What is not known there is passed over, as it
is there; what is known there, would change the picture and cannot be done here is refused.
"""

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from jobs.models import WITHOUT_KARRAS, Model, unheeded
from memo import BadRecipe
from memo.init_image import KEPT, read_init_image
from memo.picture import A1111_SAMPLERS
from memo.recipe import check_whole

MOST_PICTURES = 64  # of one request
LARGEST = 4096  # px, of a side
LONGEST_TASK = 128  # characters of its name
ALIASES = {
    "dpm++2m": ("k_dpmpp_2m",),
    "ddim": ("ddim",),
    "euler": ("k_euler",),
    "euler-a": ("k_euler_a", "k_euler_ancestral"),
    "lcm": ("k_lcm",),
}
SCHEDULERS = {"automatic": "Automatic", "karras": "Karras", "uniform": "Uniform", "normal": "Normal"}
EVEN = ("uniform", "normal")  # the model's own noise levels at evenly spaced times: our "native"
KARRAS = " karras"  # how the names of samplers ended before there were schedulers
UPSCALERS = ("None", "Latent")  # names under which a larger picture may be asked for; the model has its own way
SCRIPT = "memoaized"  # the script whose argument is the memory policy
EXTRA = re.compile(r"<(lora|lyco|hypernet):([^<>]*)>", re.I)
DATA_URL = re.compile(r"data:[\w/.+-]*;base64,", re.I)
USUAL_STRENGTH = 0.75  # of a request that says none
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

Harmless = dict[str, tuple[tuple[object, ...], str]]  # field: the values that ask for nothing, and for what others do
REFUSED: Harmless = {
    "styles": (([], ""), "saved styles"),
    "subseed_strength": ((0,), "variation seeds"),
    "seed_resize_from_h": ((-1, 0), "seeds of another size"),
    "seed_resize_from_w": ((-1, 0), "seeds of another size"),
    "restore_faces": ((False,), "restoration of faces"),
    "tiling": ((False,), "tiling"),
    "s_min_uncond": ((0,), "skipped guidance"),
    "s_churn": ((0,), "churn"),
    "s_tmin": ((0,), "churn"),
    "s_noise": ((1,), "noise multiplier"),
    "initial_noise_multiplier": ((1,), "noise multiplier"),
    "refiner_checkpoint": (("", "None"), "refiner"),
    "disable_extra_networks": ((False,), "switch for LoRA files: take them out of the prompt"),
    "firstpass_image": (("",), "first pass"),
    "infotext": (("",), "settings from text: send the fields themselves"),
    "script_name": (("", "None"), "scripts"),
    "mask": (("",), "inpainting"),
    "controlnet_units": (([],), "ControlNet"),
}
REFUSED_ENLARGED: Harmless = {
    "hr_upscaler": (("", *UPSCALERS), f"upscaler of this name, only {' and '.join(UPSCALERS)}"),
    "hr_second_pass_steps": ((0,), "second pass"),
    "hr_checkpoint_name": (("", "Use same checkpoint"), "second pass"),
    "hr_sampler_name": (("", "Use same sampler"), "second pass"),
    "hr_scheduler": (("", "Use same scheduler"), "second pass"),
    "hr_prompt": (("",), "second pass"),
    "hr_negative_prompt": (("",), "second pass"),
    "firstphase_width": ((0,), "first pass of a size of its own"),
    "firstphase_height": ((0,), "first pass of a size of its own"),
}
REFUSED_SETTINGS: Harmless = {
    "CLIP_stop_at_last_layers": ((0, 1), "clip skip"),
    "sd_vae": (("", "Automatic", "None"), "choice of a VAE"),
    "sd_unet": (("", "Automatic", "None"), "choice of a UNet"),
    "sd_hypernetwork": (("", "None"), "hypernetworks"),
    "forge_additional_modules": (([],), "additional modules"),
    "eta_noise_seed_delta": ((0,), "shift of seeds"),
    "samples_format": (("", "png"), "other format than PNG"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class A1111Request:
    """A request, translated: `native` for `asking.ask`, without a count."""

    native: dict[str, object]
    count: int
    batch_size: int
    told: dict[str, Any]  # the request as it is told back
    enlarged: bool = False
    task: str = ""  # the client's own name for it
    init_image: bytes | None = None  # the file of a picture to start from
    lasting: str = ""  # the model that later requests shall use as well


def read(
    body: Mapping[str, Any], models: Mapping[str, Model], *, preferred: str, policy: str, img2img: bool
) -> A1111Request:
    """The checked request. `preferred` is the caller's model, `policy` the default policy.

    Raises BadRecipe with the field's name in this dialect.
    """
    refuse(body, REFUSED)
    settings = mapping(body, "override_settings")
    refuse(settings, REFUSED_SETTINGS, "override_settings.")
    checkpoint = settings.get("sd_model_checkpoint") or ""
    model = named(checkpoint, models) if checkpoint else models.get(preferred, next(iter(models.values())))
    width, height = size(body, model)
    given = {
        **words(body),
        "model": model.name,
        "width": width,
        "height": height,
        "steps": number(body.get("steps")),
        "guidance_scale": number(body.get("cfg_scale")),
        **sampling(body),
        "seed": seed(body),
        "memo": read_policy(body) or policy or None,
    }
    if unheeded(given["guidance_scale"], model):
        given["negative_prompt"] = ""  # AUTOMATIC1111 does not look at it either
    lasts = checkpoint and body.get("override_settings_restore_afterwards") is False
    batch_size, count = counts(body)
    return A1111Request(
        native={**given, **({"strength": strength(body)} if img2img else {})},
        count=count,
        batch_size=batch_size,
        told=told(body, img2img),
        enlarged=bool(body.get("enable_hr")) and not img2img,
        task=task(body),
        init_image=init_image_file(body, width, height) if img2img else None,
        lasting=model.name if lasts else "",
    )


def refuse(body: Mapping[str, Any], harmless: Harmless, within: str = "") -> None:
    """Raise BadRecipe for the first field that asks for what cannot be done here."""
    for field, (values, what) in harmless.items():
        value = number(body.get(field))
        if value is not None and value not in values:
            instead = f" or send {values[0]!r}" if values else ""
            raise BadRecipe(within + field, value, f"there is no {what}: leave it out{instead}")


def mapping(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A field that is an object, or nothing."""
    value = body.get(field) or {}
    if not isinstance(value, Mapping):
        raise BadRecipe(field, value, "it must be an object")
    return value


def title(model: Model) -> str:
    """How AUTOMATIC1111 names a checkpoint: with the beginning of its hash."""
    return f"{model.name} [{model.revision[:10]}]"


def named(checkpoint: object, models: Mapping[str, Model]) -> Model:
    """The model of this title, name, file name or hash; raises BadRecipe."""
    wanted = re.sub(r"\s*\[\w+\]$|\.(safetensors|ckpt)$", "", str(checkpoint).strip()).casefold()
    wanted = re.sub(r"\.(safetensors|ckpt)$", "", wanted)
    for model in models.values():
        if wanted in (model.name.casefold(), model.revision, model.revision[:10]):
            return model
    raise BadRecipe("sd_model_checkpoint", checkpoint, f"choose one of {', '.join(map(title, models.values()))}")


def size(body: Mapping[str, Any], model: Model) -> tuple[Any, Any]:
    """Width and height of the picture that is handed out; what is no number stays as it was sent."""
    sent = {side: number(body.get(side)) for side in ("width", "height")}
    width, height = (model.defaults[side] if value is None else value for side, value in sent.items())
    if not body.get("enable_hr"):
        return width, height
    refuse(body, REFUSED_ENLARGED)
    across, down = (number(body.get(f"hr_resize_{axis}")) or 0 for axis in "xy")
    scale = number(body.get("hr_scale", DEFAULTS["hr_scale"]))
    measures = {"width": width, "height": height, "hr_resize_x": across, "hr_resize_y": down, "hr_scale": scale}
    for field, value in measures.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            raise BadRecipe(field, value, f"it must be a number from 0 to {LARGEST}")
    if not across and not down:
        return int(width * scale), int(height * scale)
    return across or int(width * down / max(height, 1)), down or int(height * across / max(width, 1))


def words(body: Mapping[str, Any]) -> dict[str, object]:
    """Prompts, and the LoRA file that the prompt names; raises BadRecipe for more than one."""
    prompt = body.get("prompt")
    if prompt is None:
        prompt = ""
    native = {"prompt": prompt, "negative_prompt": body.get("negative_prompt") or ""}
    found = EXTRA.findall(prompt) if isinstance(prompt, str) else []
    if not found:
        return native
    if len(found) > 1:
        raise BadRecipe("prompt", prompt, "one LoRA file at a time: take all but one <lora:…> out")
    return {**native, "prompt": EXTRA.sub("", prompt), "adapter": adapter(*found[0])}


def adapter(kind: str, written: str) -> str:
    """NAME:WEIGHT of what stands between < and >; raises BadRecipe."""
    name, *weights = written.split(":")
    tag = f"<{kind}:{written}>"
    if kind.lower() == "hypernet" or not name.strip():
        raise BadRecipe("prompt", tag, "only <lora:NAME:WEIGHT> is known: take it out")
    weight = number(weights[0]) if len(weights) == 1 else 1.0
    if len(weights) > 1 or isinstance(weight, str) or not math.isfinite(weight):
        raise BadRecipe("prompt", tag, "write <lora:NAME:WEIGHT> with one number as the weight")
    return f"{name.strip()}:{weight:g}"


def sampling(body: Mapping[str, Any]) -> dict[str, object]:
    """Sampler and schedule under our names; what is left to the server is left out. Raises BadRecipe."""
    field = "sampler_name" if body.get("sampler_name") else "sampler_index"
    asked = str(body.get(field) or "").strip()
    name = asked.casefold().removesuffix(KARRAS)
    schedule = schedule_of(body.get("scheduler"))
    if schedule is None and name != asked.casefold():
        schedule = "karras"
    if name in ("", "automatic"):
        return {"schedule": schedule} if schedule else {}
    for ours, theirs in A1111_SAMPLERS.items():
        if name in (theirs.casefold(), *ALIASES[ours]):
            return {"sampler": ours, "schedule": schedule or ("native" if ours in WITHOUT_KARRAS else None)}
    known = ", ".join(A1111_SAMPLERS.values())
    raise BadRecipe(field, asked, f"choose one of {known}, or leave it out for the model's own")


def schedule_of(scheduler: object) -> str | None:
    """Our schedule of this name or label; None when it is left to the server. Raises BadRecipe."""
    name = str(scheduler or "automatic").strip().casefold()
    if name not in SCHEDULERS:
        raise BadRecipe("scheduler", scheduler, f"choose one of {', '.join(SCHEDULERS.values())}")
    return "karras" if name == "karras" else "native" if name in EVEN else None


def seed(body: Mapping[str, Any]) -> object:
    """The seed, or None for any; -1 asks for any."""
    value = number(body.get("seed"))
    return None if value in (-1, "") else value


def strength(body: Mapping[str, Any]) -> object:
    """How much of the start picture is changed; a txt2img request has the field, too, for its second pass."""
    value = number(body.get("denoising_strength"))
    return USUAL_STRENGTH if value is None else value


def counts(body: Mapping[str, Any]) -> tuple[int, int]:
    """Pictures in a batch, and altogether; raises BadRecipe."""
    batch_size, batches = (number(body.get(name, 1)) for name in ("batch_size", "n_iter"))
    for name, value in (("batch_size", batch_size), ("n_iter", batches)):
        check_whole(name, value, 1, MOST_PICTURES)
    count = int(batch_size) * int(batches)
    if count > MOST_PICTURES:
        raise BadRecipe("n_iter", batches, f"batch_size times n_iter must be at most {MOST_PICTURES}, not {count}")
    return int(batch_size), count


def read_policy(body: Mapping[str, Any]) -> object:
    """The memory policy that stands among the scripts, or None; raises BadRecipe for a script that would run."""
    found: object = None
    for name, values in mapping(body, "alwayson_scripts").items():
        arguments = values.get("args", []) if isinstance(values, Mapping) else values
        arguments = arguments if isinstance(arguments, list) else [arguments]
        if name.casefold() == SCRIPT:
            found = next((word["memo"] for word in arguments if isinstance(word, Mapping) and word.get("memo")), None)
        elif not switched_off(arguments):
            raise BadRecipe(f"alwayson_scripts.{name}", "on", "there is no such extension here: switch it off")
    return found


def switched_off(arguments: list[object]) -> bool:
    """Whether a script does nothing with these."""
    units = [unit for unit in arguments if isinstance(unit, Mapping)]
    off = [unit.get("enabled", unit.get("enable", True)) is False for unit in units]
    return not arguments or arguments[0] in (False, None) or (len(units) == len(arguments) and all(off))


def task(body: Mapping[str, Any]) -> str:
    """The client's name for the request, or ""; raises BadRecipe."""
    name = body.get("force_task_id") or ""
    if not isinstance(name, str) or len(name) > LONGEST_TASK or not name.isprintable():
        raise BadRecipe("force_task_id", name, f"it must be a name of at most {LONGEST_TASK} printable characters")
    return name


def init_image_file(body: Mapping[str, Any], width: Any, height: Any) -> bytes:
    """The file to start from, in the shape that the picture shall have; raises BadRecipe."""
    images = body.get("init_images")
    if not isinstance(images, list) or len(images) != 1:
        many = f"{len(images)} pictures" if isinstance(images, list) else images
        raise BadRecipe("init_images", many, "send a list of exactly one picture, in base64")
    mode = number(body.get("resize_mode", JUST_RESIZE))
    check_whole("resize_mode", mode, JUST_RESIZE, LATENT)
    try:
        png = read_init_image(image_file("init_images", images[0]))
    except BadRecipe as error:
        raise BadRecipe("init_images", images[0], error.remedy) from error
    sides = all(isinstance(side, int) and 0 < side <= LARGEST for side in (width, height))
    if mode == CROP or not sides:
        return png  # the painter cuts it to shape; a wrong size is refused later
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if abs(image.width * height - image.height * width) <= max(image.size) * max(width, height) / 100:
            return png
        if mode == FILL:
            raise BadRecipe("resize_mode", mode, f"there is no filling up: send 0 to stretch it, {CROP} to cut it")
        return stretched(image, min(width, KEPT), min(height, KEPT))


def stretched(image: Image.Image, width: int, height: int) -> bytes:
    """PNG bytes of the picture in another shape."""
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def image_file(field: str, text: object) -> bytes:
    """The bytes of a file in base64, with or without the beginning of a data URL; raises BadRecipe."""
    if not isinstance(text, str) or not text:
        raise BadRecipe(field, text, "send a picture in base64")
    plain = DATA_URL.sub("", text, count=1) if text[:5].lower() == "data:" else text
    try:
        return base64.b64decode("".join(plain.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecipe(field, text[:40], f"send a picture in base64, not its address: {error}") from error


def number(value: Any) -> Any:
    """Text that is a number, and a whole number as a fraction, as the number; all else as it is."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,20}(\.\d{0,20})?\s*", value):
        value = float(value) if "." in value else int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def told(body: Mapping[str, Any], img2img: bool) -> dict[str, Any]:
    """The request with its defaults, as it is told back: without pictures, and nothing that is not of the dialect."""
    known = {name: body.get(name, value) for name, value in DEFAULTS.items()}
    if not (img2img and body.get("include_init_images") is True):
        known |= {"init_images": None, "mask": None}
    return known
