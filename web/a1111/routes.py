"""AUTOMATIC1111's API, /sdapi/v1. See docs/clients.md.

In AUTOMATIC1111, options and progress belong to the whole server; here each user has their own.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue

from jobs.job import Job, State
from jobs.models import Model
from memo import now
from memo.picture import A1111_SAMPLERS, PARAMETERS_CHUNK, parameters
from web import problems
from web.access import cancel_job, read_image, seconds_until_done
from web.extensions import catalogue
from web.json_body import read_object
from web.rerolls import record_received
from web.uploads import decode_base64, large_body

from . import generation_request
from .generation_request import A1111Request, checkpoint_title
from .infotext import read_painted_prompts, read_settings, read_texts
from .tasks import (
    explain_waiting,
    known_jobs,
    preview_in_base64,
    share_done,
    tasks_under_way,
    to_base64,
    user_id,
    user_records,
    wait_for_jobs,
)

bp = Blueprint("a1111", __name__, url_prefix="/sdapi/v1")

CHECKPOINT = "sd_model_checkpoint"
LARGEST_UPLOAD = 24 * 2**20  # bytes of a request with a picture in base64
DIALECT_NAMES = {  # native: dialect
    "model": CHECKPOINT,
    "guidance_scale": "cfg_scale",
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "adapter": "prompt",
    "init_image": "init_images",
    "strength": "denoising_strength",
    "memo": "alwayson_scripts.memoaized",
}
EMPTY_LISTS = (
    "sd-vae",
    "sd-modules",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "styles",
    "script-info",
    "extensions",
)
EMPTY_OBJECTS: dict[str, dict[str, object]] = {
    "cmd-flags": {},
    "memory": {"ram": {}, "cuda": {}},
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
}
NO_OPERATIONS = (  # POST requests that are accepted and do nothing
    "refresh-checkpoints",
    "refresh-vae",
    "refresh-loras",
    "refresh-embeddings",
    "reload-checkpoint",
    "unload-checkpoint",
)


@bp.post("/txt2img")
def txt2img() -> ResponseReturnValue:
    """Create pictures for a prompt."""
    return create_pictures(read_request(read_object(), img2img=False))


@bp.post("/img2img")
def img2img() -> ResponseReturnValue:
    """Create pictures for a prompt that start from a picture."""
    with large_body(LARGEST_UPLOAD):
        a1111_request = read_request(read_object("init_images", "mask"), img2img=True)
    return create_pictures(a1111_request)


def read_request(body: Mapping[str, Any], *, img2img: bool) -> A1111Request:
    """The checked request, with the user's choice of a model; raises BadRecipe."""
    return generation_request.read_request(body, models(), preferred_model=preferred_model(), img2img=img2img)


def create_pictures(a1111_request: A1111Request) -> ResponseReturnValue:
    """The response when all jobs are final. After an interrupt it has only the finished pictures."""
    if a1111_request.preferred_model:
        user_records().keep_preferences(user_id(), {CHECKPOINT: a1111_request.preferred_model})
    jobs = wait_for_jobs(a1111_request)
    if failed := next((job for job in jobs if job.state is State.FAILED), None):
        abort(500, failed.error or "the painting failed")
    response = pictures_response(a1111_request, [job for job in jobs if job.picture])
    record_received(jobs)
    return response


def pictures_response(a1111_request: A1111Request, jobs: Sequence[Job]) -> dict[str, object]:
    """The response to txt2img and img2img."""
    images = [
        to_base64(read_image(job.picture.key))
        for job in jobs
        if job.picture and a1111_request.parameters["send_images"]
    ]
    return {
        "images": images,
        "parameters": used_parameters(a1111_request, jobs),
        "info": json.dumps(info(a1111_request, jobs)),
    }


def used_parameters(a1111_request: A1111Request, jobs: Sequence[Job]) -> dict[str, Any]:
    """The request's parameters, completed by those that the server chose."""
    parameters = dict(a1111_request.parameters)
    if jobs:
        recipe = jobs[0].recipe
        used: dict[str, object] = {"steps": recipe.steps, "cfg_scale": recipe.guidance_scale, "width": recipe.width}
        used |= {"height": recipe.height, "sampler_name": A1111_SAMPLERS[recipe.sampler]}
        parameters |= {name: value for name, value in used.items() if parameters[name] is None}
    return parameters


def info(a1111_request: A1111Request, jobs: Sequence[Job]) -> dict[str, Any]:
    """The settings of the pictures. Those of a remembered picture are the ones that it was painted with."""
    pictures = [job.picture for job in jobs if job.picture]
    recipes = [picture.recipe for picture in pictures]
    first = recipes[0] if recipes else None
    prompts = [recipe.prompt for recipe in recipes]
    negatives = [recipe.negative_prompt for recipe in recipes]
    seeds = [recipe.seed for recipe in recipes]
    known = used_parameters(a1111_request, jobs)
    return {
        "prompt": str(a1111_request.native["prompt"]),
        "all_prompts": prompts,
        "negative_prompt": str(a1111_request.native["negative_prompt"]),
        "all_negative_prompts": negatives,
        "seed": seeds[0] if seeds else -1,
        "all_seeds": seeds,
        "subseed": seeds[0] if seeds else -1,
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": first.width if first else known["width"],
        "height": first.height if first else known["height"],
        "sampler_name": A1111_SAMPLERS[first.sampler] if first else known["sampler_name"],
        "cfg_scale": first.guidance_scale if first else known["cfg_scale"],
        "steps": first.steps if first else known["steps"],
        "batch_size": a1111_request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": str(a1111_request.native["model"]),
        "sd_model_hash": first.revision[:10] if first else "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": a1111_request.native.get("strength"),
        "extra_generation_params": memo_parameters(a1111_request, jobs),
        "index_of_first_image": 0,
        "infotexts": [parameters(recipe) for recipe in recipes],
        "styles": [],
        "job_timestamp": timestamp(jobs[0].created if jobs else now()),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": "memoAIzed",
    }


def memo_parameters(a1111_request: A1111Request, jobs: Sequence[Job]) -> dict[str, object]:
    """This server's extension: the origin and reason of each picture, and how they depart from the request."""
    notes = list(dict.fromkeys((*a1111_request.notes, *(note for job in jobs for note in job.notes))))
    origins = {"Memo origins": [job.origin for job in jobs], "Memo reasons": [job.reason for job in jobs]}
    return {**origins, **({"Memo notes": notes} if notes else {})}


@bp.get("/progress")
def progress() -> ResponseReturnValue:
    """Get the progress of the user's requests in this dialect."""
    tasks = tasks_under_way()
    jobs = [job for _, task_jobs in tasks for job in task_jobs]
    active = next((job for job in jobs if job.state is State.RUNNING), None)
    wants_image = request.args.get("skip_current_image", "").lower() not in ("1", "true", "yes", "on")
    return {
        "progress": share_done(jobs),
        "eta_relative": seconds_until_done(jobs),
        "state": {
            "skipped": False,
            "interrupted": any(task.stopped for task, _ in tasks),
            "stopping_generation": False,
            "job": active.id if active else "",
            "job_count": len(jobs),
            "job_timestamp": timestamp(tasks[0][0].begun) if tasks else "0",
            "job_no": sum(job.state.final for job in jobs),
            "sampling_step": active.step if active else 0,
            "sampling_steps": active.recipe.steps if active else 0,
        },
        "current_image": preview_in_base64(active) if active and wants_image else None,
        "textinfo": explain_waiting(jobs),
    }


@bp.post("/interrupt")
def interrupt() -> ResponseReturnValue:
    """Cancel all of the user's requests in this dialect; their finished pictures are still delivered."""
    for task in user_records().tasks_under_way(user_id()):
        user_records().stop_task(user_id(), task.name)
        for job in known_jobs(user_records().task(user_id(), task.name) or task):
            cancel_job(job.id)
    return {}


@bp.post("/skip")
def skip() -> ResponseReturnValue:
    """Cancel the user's running jobs; waiting ones go on."""
    for _, jobs in tasks_under_way():
        for job in jobs:
            if job.state is State.RUNNING:
                cancel_job(job.id)
    return jsonify(None)


@bp.get("/options")
def options() -> ResponseReturnValue:
    """Get the user's options."""
    model = models()[preferred_model()]
    return {
        CHECKPOINT: checkpoint_title(model),
        "sd_checkpoint_hash": model.revision,
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
    }


@bp.post("/options")
def set_options() -> ResponseReturnValue:
    """Choose a checkpoint for the user's later requests; raises BadRecipe for a value that this server lacks."""
    body = read_object()
    generation_request.refuse(body, generation_request.REFUSED_SETTINGS)
    if model := generation_request.read_checkpoint(body, models()):
        user_records().keep_preferences(user_id(), {CHECKPOINT: model.name})
    return jsonify(None)


@bp.get("/sd-models")
def sd_models() -> ResponseReturnValue:
    """List the models, the default first."""
    return [
        {
            "title": checkpoint_title(model),
            "model_name": model.name,
            "hash": model.revision[:10],
            "sha256": None,
            "filename": model.name,
            "config": None,
        }
        for model in models().values()
    ]


@bp.get("/samplers")
def samplers() -> ResponseReturnValue:
    """List the samplers of the user's model."""
    names = models()[preferred_model()].samplers
    return [
        {"name": A1111_SAMPLERS[name], "aliases": list(generation_request.ALIASES[name]), "options": {}}
        for name in names
    ]


@bp.get("/schedulers")
def schedulers() -> ResponseReturnValue:
    """List the schedulers of the user's model."""
    schedules = models()[preferred_model()].schedules
    unsupported = {"karras"} - set(schedules)
    if "native" not in schedules:
        unsupported |= set(generation_request.NATIVE_SCHEDULERS)
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in generation_request.SCHEDULERS.items()
        if name not in unsupported
    ]


@bp.get("/upscalers")
def upscalers() -> ResponseReturnValue:
    """List the upscalers: none by name, since each model upscales in its own way."""
    return [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}]


@bp.get("/latent-upscale-modes")
def latent_upscale_modes() -> ResponseReturnValue:
    """List the names under which clients request a larger picture."""
    return [{"name": name} for name in generation_request.UPSCALERS if name != "None"]


@bp.get("/loras")
def loras() -> ResponseReturnValue:
    """List the LoRA files of the user's model."""
    names = models()[preferred_model()].adapters
    return [{"name": name, "alias": name, "path": f"{name}.safetensors", "metadata": {}} for name in names]


@bp.post("/png-info")
def png_info() -> ResponseReturnValue:
    """Read the settings in a picture, which is not kept."""
    with large_body(LARGEST_UPLOAD, kept=False):
        texts = read_texts(decode_base64("image", read_object("image").get("image")))
    text = texts.pop(PARAMETERS_CHUNK, "")
    parameters = read_settings(text) | read_painted_prompts(texts) if text else {}
    return {"info": text, "items": texts, "parameters": parameters}


def add_constant_route(path: str, response: object, method: str = "GET") -> None:
    """Add a route with a fixed response, for things that clients ask for and this server lacks."""

    def view() -> ResponseReturnValue:
        return jsonify(response)

    bp.add_url_rule(f"/{path}", path, view, methods=[method])


for path in EMPTY_LISTS:
    add_constant_route(path, [])
for path, response in EMPTY_OBJECTS.items():
    add_constant_route(path, response)
for path in NO_OPERATIONS:
    add_constant_route(path, None, "POST")


@bp.post("/<any('extra-single-image', 'extra-batch-images', 'interrogate'):path>")
def not_supported(path: str) -> ResponseReturnValue:
    """Refuse what AUTOMATIC1111 offers and this server does not."""
    abort(501, f"this server does not support {path}")


def models() -> dict[str, Model]:
    """All models by name, the default one first."""
    return catalogue().models()


def preferred_model() -> str:
    """The name of the model that the user chose; the default one if that is no longer offered."""
    available = models()
    name = user_records().preferences(user_id()).get(CHECKPOINT, "")
    return name if name in available else next(iter(available))


def timestamp(moment: float) -> str:
    """A time as AUTOMATIC1111 writes it, in the server's time zone."""
    return time.strftime("%Y%m%d%H%M%S", time.localtime(moment))


def format_error(status: int, name: str, detail: str, more: Mapping[str, Any]) -> Response:
    """An error as AUTOMATIC1111 writes it, plus field, value and fix."""
    fields = {key: more[key] for key in ("field", "value", "fix") if key in more}
    if field := DIALECT_NAMES.get(str(fields.get("field"))):
        fields["field"] = field
        detail = f"{field}: {fields.get('value')} is not valid: {fields.get('fix')}"
    document = {"error": name, "detail": detail, "body": "", "errors": detail, **fields}
    return Response(json.dumps(document), status, content_type="application/json")


problems.ERROR_FORMATS["/sdapi/"] = format_error
