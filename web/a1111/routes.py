"""AUTOMATIC1111's API, /sdapi/v1, for the clients that speak it. See docs/clients.md.

What a request means is decided in `sdapi`, which jobs it has in `tasks`, and everything below that in `asking`.
Options and progress are one for a whole server there; here each caller has their own.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, abort, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from jobs.job import Job, State
from jobs.models import Model
from memo import now
from memo.picture import A1111_SAMPLERS, PARAMETERS_CHUNK, parameters
from web import problems
from web.json_body import read_object
from web.picture_requests import cancel, image_of

from . import generation_request
from .generation_request import A1111Request, title
from .infotext import settings_in, texts_in
from .tasks import caller, callers, encoded, ended_jobs, jobs_known, look, seconds_left, share, under_way, words_of

bp = Blueprint("a1111", __name__, url_prefix="/sdapi/v1")

CHECKPOINT = "sd_model_checkpoint"
LARGEST_UPLOAD = 24 * 2**20  # bytes of a request with a picture in base64
POLICY = "X-Memo-Policy"  # the header with the memory policy
THEIRS = {
    "model": CHECKPOINT,
    "guidance_scale": "cfg_scale",
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "adapter": "prompt",
    "init_image": "init_images",
    "strength": "denoising_strength",
    "memo": "alwayson_scripts.memoaized",
}  # our fields by the names that they have in this dialect
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
NOTHING_TO_DO = (
    "refresh-checkpoints",
    "refresh-vae",
    "refresh-loras",
    "refresh-embeddings",
    "reload-checkpoint",
    "unload-checkpoint",
)


@bp.post("/txt2img")
def txt2img() -> ResponseReturnValue:
    """Paint, or remember, and answer with the pictures."""
    return paint(read_object(), img2img=False)


@bp.post("/img2img")
def img2img() -> ResponseReturnValue:
    """The same, from a picture."""
    request.max_content_length = LARGEST_UPLOAD
    return paint(read_object(), img2img=True)


def paint(body: Mapping[str, Any], *, img2img: bool) -> ResponseReturnValue:
    """The answer when all pictures are there, or when the caller has interrupted: then it is those that are."""
    policy = request.headers.get(POLICY, "").strip()
    asked = generation_request.read(body, models(), preferred=chosen(), policy=policy, img2img=img2img)
    if asked.lasting:
        callers().prefer(caller(), {CHECKPOINT: asked.lasting})
    jobs = ended_jobs(asked)
    if failed := next((job for job in jobs if job.state is State.FAILED), None):
        abort(500, failed.error or "the painting failed")
    return told(asked, [job for job in jobs if job.picture])


def told(asked: A1111Request, jobs: Sequence[Job]) -> dict[str, object]:
    """The answer to txt2img and img2img."""
    images = [encoded(image_of(job.picture.key)) for job in jobs if job.picture and asked.told["send_images"]]
    return {"images": images, "parameters": settled(asked, jobs), "info": json.dumps(info(asked, jobs))}


def settled(asked: A1111Request, jobs: Sequence[Job]) -> dict[str, Any]:
    """The request as it was understood: where it left something to the server, what that was."""
    told = dict(asked.told)
    if jobs:
        recipe = jobs[0].recipe
        used: dict[str, object] = {"steps": recipe.steps, "cfg_scale": recipe.guidance_scale, "width": recipe.width}
        used |= {"height": recipe.height, "sampler_name": A1111_SAMPLERS[recipe.sampler]}
        told |= {name: value for name, value in used.items() if told[name] is None}
    return told


def info(asked: A1111Request, jobs: Sequence[Job]) -> dict[str, Any]:
    """What is told of the pictures; one that was remembered tells how it was painted then."""
    pictures = [job.picture for job in jobs if job.picture]
    recipes = [picture.recipe for picture in pictures]
    first = recipes[0] if recipes else None
    prompts = [recipe.prompt for recipe in recipes]
    negatives = [recipe.negative_prompt for recipe in recipes]
    seeds = [recipe.seed for recipe in recipes]
    known = settled(asked, jobs)
    return {
        "prompt": str(asked.native["prompt"]),
        "all_prompts": prompts,
        "negative_prompt": str(asked.native["negative_prompt"]),
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
        "batch_size": asked.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": str(asked.native["model"]),
        "sd_model_hash": first.revision[:10] if first else "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": asked.native.get("strength"),
        "extra_generation_params": origins(jobs),
        "index_of_first_image": 0,
        "infotexts": [parameters(recipe) for recipe in recipes],
        "styles": [],
        "job_timestamp": stamp(jobs[0].created if jobs else now()),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": "memoAIzed",
    }


def origins(jobs: Sequence[Job]) -> dict[str, object]:
    """How each picture came about, and why."""
    return {"Memo origins": [job.origin for job in jobs], "Memo reasons": [job.reason for job in jobs]}


@bp.get("/progress")
def progress() -> ResponseReturnValue:
    """How far the caller's own requests of this dialect are."""
    tasks = under_way()
    jobs = [job for _, its in tasks for job in its]
    active = next((job for job in jobs if job.state is State.RUNNING), None)
    wants_image = request.args.get("skip_current_image", "").lower() not in ("1", "true", "yes", "on")
    return {
        "progress": share(jobs),
        "eta_relative": seconds_left(jobs),
        "state": {
            "skipped": False,
            "interrupted": any(task.stopped for task, _ in tasks),
            "stopping_generation": False,
            "job": active.id if active else "",
            "job_count": len(jobs),
            "job_timestamp": stamp(tasks[0][0].begun) if tasks else "0",
            "job_no": sum(job.state.final for job in jobs),
            "sampling_step": active.step if active else 0,
            "sampling_steps": active.recipe.steps if active else 0,
        },
        "current_image": look(active) if active and wants_image else None,
        "textinfo": words_of(jobs),
    }


@bp.post("/interrupt")
def interrupt() -> ResponseReturnValue:
    """Cancel all that the caller waits for in this dialect; finished pictures are handed out."""
    for task in callers().under_way(caller()):
        callers().stop(caller(), task.name)
        for job in jobs_known(callers().task(caller(), task.name) or task):
            cancel(job.id)
    return {}


@bp.post("/skip")
def skip() -> ResponseReturnValue:
    """Cancel what is being painted for the caller just now; what waits goes on."""
    for _, jobs in under_way():
        for job in jobs:
            if job.state is State.RUNNING:
                cancel(job.id)
    return jsonify(None)


@bp.get("/options")
def options() -> ResponseReturnValue:
    """The caller's own settings."""
    model = models()[chosen()]
    return {
        CHECKPOINT: title(model),
        "sd_checkpoint_hash": model.revision,
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
    }


@bp.post("/options")
def set_options() -> ResponseReturnValue:
    """Choose a checkpoint for the caller's later requests; what there is no choice of must stay as it is."""
    body = read_object()
    generation_request.refuse(body, generation_request.REFUSED_SETTINGS)
    if wanted := body.get(CHECKPOINT):
        callers().prefer(caller(), {CHECKPOINT: generation_request.named(wanted, models()).name})
    return jsonify(None)


@bp.get("/sd-models")
def sd_models() -> ResponseReturnValue:
    """The models there are, the default one first."""
    return [
        {
            "title": title(model),
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
    """Those of the caller's model."""
    names = models()[chosen()].samplers
    return [
        {"name": A1111_SAMPLERS[name], "aliases": list(generation_request.ALIASES[name]), "options": {}}
        for name in names
    ]


@bp.get("/schedulers")
def schedulers() -> ResponseReturnValue:
    """Those of the caller's model."""
    offered = models()[chosen()].schedules
    left_out = {"karras"} - set(offered) | (set() if "native" in offered else set(generation_request.EVEN))
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in generation_request.SCHEDULERS.items()
        if name not in left_out
    ]


@bp.get("/upscalers")
def upscalers() -> ResponseReturnValue:
    """None by a name: a larger picture is painted in the model's own way."""
    return [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}]


@bp.get("/latent-upscale-modes")
def latent_upscale_modes() -> ResponseReturnValue:
    """The name under which clients ask for a larger picture."""
    return [{"name": name} for name in generation_request.UPSCALERS if name != "None"]


@bp.get("/loras")
def loras() -> ResponseReturnValue:
    """The LoRA files of the caller's model."""
    names = models()[chosen()].adapters
    return [{"name": name, "alias": name, "path": f"{name}.safetensors", "metadata": {}} for name in names]


@bp.post("/png-info")
def png_info() -> ResponseReturnValue:
    """The settings that a picture carries; none is kept."""
    request.max_content_length = LARGEST_UPLOAD
    texts = texts_in(generation_request.image_file("image", read_object().get("image")))
    text = texts.pop(PARAMETERS_CHUNK, "")
    return {"info": text, "items": texts, "parameters": settings_in(text) if text else {}}


def answer_always(path: str, answer: object, method: str = "GET") -> None:
    """A route for what clients ask for and there is nothing of here."""

    def same() -> ResponseReturnValue:
        return jsonify(answer)

    bp.add_url_rule(f"/{path}", path, same, methods=[method])


for path in EMPTY_LISTS:
    answer_always(path, [])
for path, answer in EMPTY_OBJECTS.items():
    answer_always(path, answer)
for path in NOTHING_TO_DO:
    answer_always(path, None, "POST")


@bp.post("/<any('extra-single-image', 'extra-batch-images', 'interrogate'):path>")
def not_here(path: str) -> ResponseReturnValue:
    """What AUTOMATIC1111 has and this server has not."""
    abort(501, f"{path} is not offered here")


def models() -> dict[str, Model]:
    """All models by name, the default one first."""
    found: dict[str, Model] = current_app.extensions["catalogue"].models()
    return found


def chosen() -> str:
    """The name of the caller's model; the default one when theirs is gone, as GET options tells, too."""
    known = models()
    name = callers().preferences(caller()).get(CHECKPOINT, "")
    return name if name in known else next(iter(known))


def stamp(moment: float) -> str:
    """A time as AUTOMATIC1111 writes it, in the server's time zone."""
    return time.strftime("%Y%m%d%H%M%S", time.localtime(moment))


def shaped(status: int, name: str, detail: str, more: Mapping[str, Any]) -> Response:
    """An error as AUTOMATIC1111 tells it, with field, value and fix besides."""
    faults = {key: more[key] for key in ("field", "value", "fix") if key in more}
    if field := THEIRS.get(str(faults.get("field"))):
        faults["field"] = field
        detail = f"{field}: {faults.get('value')} cannot be used; {faults.get('fix')}"
    document = {"error": name, "detail": detail, "body": "", "errors": detail, **faults}
    return Response(json.dumps(document), status, content_type="application/json")


problems.SHAPES["/sdapi/"] = shaped
