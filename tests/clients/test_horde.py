"""AI-Horde's API on a real port, as scripts use it."""

import base64
import io
import re
import time
import uuid

import httpx
import pytest
import standardwebhooks
from PIL import Image

import web
from jobs import events
from jobs.models import Catalogue
from jobs.webhooks.deliverer import Deliverer
from jobs.webhooks.deliveries import Webhooks
from jobs.webhooks.receivers import Receivers
from jobs.webhooks.signature import generate_secret, signature_headers
from tests.jobs.test_webhooks import SECRET, receiver  # noqa: F401  # a fixture
from tests.real import ROOT, serving, wait_for
from web import links
from web.config import WebConfig

PARAMS = {"n": 2, "width": 64, "height": 64, "steps": 4, "cfg_scale": 3, "sampler_name": "k_euler_a", "karras": True}
FOX = {"prompt": "a red fox in the snow ### blurry", "params": PARAMS, "models": ["sd-xl", "stickers"], "r2": False}
HARMLESS = {
    "nsfw": False,
    "censor_nsfw": True,
    "trusted_workers": True,
    "slow_workers": True,
    "workers": [],
    "shared": False,
    "replacement_filter": True,
    "disable_batching": True,
    "allow_downgrade": False,
    "dry_run": False,
    "source_processing": "img2img",
    "source_image": None,
}
USUAL = {"post_processing": [], "clip_skip": 1, "tiling": False, "hires_fix": False, "facefixer_strength": 0.75}


@pytest.fixture
def url(app, monkeypatch):
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)
    with serving(app) as base:
        yield base


@pytest.fixture
def horde(url):
    headers = {"apikey": "0000000000", "Client-Agent": "tests:1:somebody"}
    with httpx.Client(base_url=f"{url}/api/v2", timeout=30, headers=headers) as client:
        yield client


def submit(horde, **more):
    answer = horde.post("/generate/async", json={**FOX, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def wait_for_status(horde, name):
    """Poll `check` until it says done, then fetch `status`, as clients do."""
    wait_for(lambda: horde.get(f"/generate/check/{name}").json()["done"])
    return horde.get(f"/generate/status/{name}").json()


def open_image(data):
    return Image.open(io.BytesIO(data))


def test_a_script_can_request_poll_fetch_and_delete(horde, working):
    answer = horde.post("/generate/async", json={**FOX, **HARMLESS, "params": {**PARAMS, **USUAL}})
    assert answer.status_code == 202
    assert [warning["code"] for warning in answer.json()["warnings"]] == ["NoAvailableWorker"]
    name = str(uuid.UUID(answer.json()["id"]))
    result = wait_for_status(horde, name)
    assert (result["finished"], result["waiting"], result["processing"], result["faulted"]) == (2, 0, 0, False)
    assert len({generation["img"] for generation in result["generations"]}) == 2
    for generation in result["generations"]:
        image = open_image(base64.b64decode(generation["img"]))
        assert (image.format, image.size) == ("WEBP", (64, 64))
        assert generation["seed"].isdigit() and generation["model"] == "stickers"
        assert generation["state"] == "ok" and not generation["censored"]
        assert uuid.UUID(generation["id"]) and uuid.UUID(generation["worker_id"])
        assert generation["worker_name"] and generation["gen_metadata"]
    assert horde.delete(f"/generate/status/{name}").json()["generations"] == result["generations"]


def test_the_request_becomes_the_recipe(horde, queue, job_store, working):
    name = submit(horde, params={**PARAMS, "n": 1, "seed": "7"})
    wait_for_status(horde, name)
    [job] = job_store.requests.group(name)["jobs"]
    recipe = queue.job_store.jobs.find(job).recipe
    assert (recipe.prompt, recipe.negative_prompt) == ("a red fox in the snow", "blurry")
    assert (recipe.steps, recipe.guidance_scale, recipe.seed, recipe.model) == (4, 3.0, 7, "stickers")
    assert (recipe.sampler, recipe.schedule, recipe.width) == ("euler-a", "karras", 64)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("k_euler", "euler"), ("k_dpmpp_2m", "dpm++2m"), ("DDIM", "ddim"), ("K_EULER_A", "euler-a")]
)
def test_samplers_have_the_dialects_names(horde, queue, job_store, theirs, ours):
    name = submit(horde, params={**PARAMS, "sampler_name": theirs, "karras": theirs == "DDIM"})
    job = queue.job_store.jobs.find(job_store.requests.group(name)["jobs"][0])
    assert (job.recipe.sampler, job.recipe.schedule) == (ours, "native")


def test_ignored_settings_cause_warnings(horde):
    params = {**PARAMS, "sampler_name": "DDIM", "karras": True, "sparkle": 3}
    result = horde.post("/generate/async", json={**FOX, "params": params, "wish": 1}).json()
    codes = {warning["code"] for warning in result["warnings"]}
    assert codes == {"SchedulerMismatch", "UnknownField", "NoAvailableWorker"}
    assert "stickers" in result["message"]


def test_a_negative_prompt_without_guidance_is_ignored_with_a_warning(horde, queue, job_store):
    result = horde.post("/generate/async", json={**FOX, "params": {**PARAMS, "cfg_scale": 1}}).json()
    assert "CfgScaleTooSmall" in {warning["code"] for warning in result["warnings"]}
    assert {
        queue.job_store.jobs.find(job).recipe.negative_prompt
        for job in job_store.requests.group(result["id"])["jobs"]
    } == {""}


def test_a_text_seed_is_always_the_same_number(horde, queue, job_store):
    seeds = []
    for words in ("my lucky words", "my lucky words", "others", "18446744073709551616000"):
        name = submit(horde, memo="off", params={**PARAMS, "n": 1, "seed": words})
        seeds.append(queue.job_store.jobs.find(job_store.requests.group(name)["jobs"][0]).recipe.seed)
    assert seeds[0] == seeds[1] and len(set(seeds)) == 3 and all(seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("seed", [None, "", "-1", -1])
def test_a_missing_seed_is_random(horde, queue, job_store, seed):
    name = submit(horde, params={**PARAMS, "seed": seed})
    assert len({queue.job_store.jobs.find(job).recipe.seed for job in job_store.requests.group(name)["jobs"]}) == 2


def test_an_answer_from_memory_says_so(horde, working):
    params = {**PARAMS, "n": 1}
    wait_for_status(horde, submit(horde, params=params))
    result = horde.get(f"/generate/status/{submit(horde, params=params, memo='auto')}").json()
    assert result["done"] and "from memory" in result["generations"][0]["gen_metadata"][0]["ref"]


def test_a_link_works_without_a_key_for_an_hour(horde, working, monkeypatch):
    [first, _] = wait_for_status(horde, submit(horde, r2=True))["generations"]
    answer = httpx.get(first["img"])
    assert answer.headers["content-type"] == "image/webp" and open_image(answer.content).size == (64, 64)
    monkeypatch.setattr(links, "LINK_SECONDS", -1)
    assert httpx.get(first["img"]).status_code == 410


def test_check_reports_progress_and_delete_cancels(horde, working, painter):
    painter.go_on.clear()
    name = submit(horde)
    wait_for(lambda: horde.get(f"/generate/check/{name}").json()["processing"] == 1)
    result = horde.get(f"/generate/check/{name}").json()
    assert (result["waiting"], result["finished"], result["done"], result["queue_position"]) == (1, 0, False, 1)
    assert "generations" not in result
    result = horde.delete(f"/generate/status/{name}").json()
    painter.go_on.set()
    assert result["done"] and result["generations"] == [] and not result["faulted"]
    assert wait_for_status(horde, name)["generations"] == [] and painter.painted == []


def test_a_failure_is_reported(horde, working, painter):
    from memo import BadSetup

    painter.fault = BadSetup("no such weights")
    result = wait_for_status(horde, submit(horde))
    assert (
        result["faulted"]
        and result["done"]
        and "no such weights" in result["message"]
        and result["generations"] == []
    )


def test_a_request_without_a_worker_is_reported_as_not_possible(horde, job_store):
    name = submit(horde)
    assert horde.get(f"/generate/check/{name}").json()["is_possible"] is False
    job_store.heartbeats.beat("here", {"models": ["stickers"]})
    assert horde.get(f"/generate/check/{name}").json()["is_possible"] is True
    models = {model["name"]: model for model in horde.get("/status/models").json()}
    assert models["stickers"]["count"] == 1 and models["stickers"]["jobs"] == 2 and models["slow"]["count"] == 0
    assert horde.get("/status/models?type=text").json() == []


def test_a_dry_run_only_checks_the_request(horde, job_store):
    answer = horde.post("/generate/async", json={**FOX, "dry_run": True})
    assert (answer.status_code, answer.json()) == (200, {"kudos": 0}) and job_store.jobs.recent(1) == []
    assert horde.post("/generate/async", json={**FOX, "dry_run": True, "models": ["x"]}).status_code == 400


def encode_image(side=64, kind="WEBP"):
    file = io.BytesIO()
    Image.new("RGB", (side, side), "#c60").save(file, kind, lossless=True)
    return base64.b64encode(file.getvalue()).decode()


def test_an_initial_image_can_be_sent_in_base64(horde, queue, job_store):
    params = {**PARAMS, "n": 1, "denoising_strength": 0.4}
    name = submit(horde, source_image=encode_image(), source_processing="img2img", params=params)
    recipe = queue.job_store.jobs.find(job_store.requests.group(name)["jobs"][0]).recipe
    assert recipe.init_image and recipe.strength == 0.4


def test_a_large_initial_image_is_accepted(horde):
    noise = io.BytesIO()
    Image.effect_noise((512, 512), 100).convert("RGB").save(noise, "PNG")
    assert len(noise.getvalue()) > 2**17
    submit(horde, source_image=base64.b64encode(noise.getvalue()).decode())


REFUSED = [
    ({"prompt": ""}, "MissingPrompt", "prompt"),
    ({"prompt": "### only a negative prompt"}, "MissingPrompt", "prompt"),
    ({"prompt": 7}, "MissingPrompt", "prompt"),
    ({"params": "none"}, "BadRequest", "params"),
    ({"models": ["stable_diffusion"]}, "UnsupportedModel", "stickers"),
    ({"models": "stickers"}, "UnsupportedModel", "list"),
    ({"params": {"width": 65, "height": 65}}, "InvalidSize", "params.width"),
    ({"params": {"width": 4096, "height": 4096}}, "InvalidSize", "params.width"),
    ({"params": {"steps": 500}}, "TooManySteps", "params.steps"),
    ({"params": {"cfg_scale": 1000}}, "BadRequest", "params.cfg_scale"),
    ({"params": {"n": 20}}, "BadRequest", "params.n"),
    ({"params": {"sampler_name": "k_heun"}}, "UnsupportedSampler", "k_euler_a"),
    ({"params": {"karras": "perhaps"}}, "BadRequest", "params.karras"),
    ({"params": {"seed": [1]}}, "BadRequest", "params.seed"),
    ({"params": {"seed": 1.5}}, "BadRequest", "params.seed"),
    ({"params": {"seed": "1", "n": 2, "seed_variation": 1000}}, "BadRequest", "seed_variation"),
    ({"params": {"post_processing": ["GFPGAN"]}}, "BadRequest", "post-processing"),
    ({"params": {"control_type": "canny"}}, "ControlNetUnsupported", "ControlNet"),
    ({"params": {"return_control_map": True}}, "BadRequest", "ControlNet"),
    ({"params": {"tis": [{"name": "x"}]}}, "BadRequest", "params.tis"),
    ({"params": {"hires_fix": True}}, "BadRequest", "hires_fix"),
    ({"params": {"tiling": True}}, "BadRequest", "tiling"),
    ({"params": {"transparent": True}}, "BadRequest", "transparen"),
    ({"params": {"clip_skip": 2}}, "BadRequest", "clip_skip"),
    ({"params": {"workflow": "qr_code"}}, "BadRequest", "workflow"),
    ({"params": {"loras": [{"name": "a"}, {"name": "b"}]}}, "BadRequest", "params.loras"),
    ({"params": {"loras": [{"name": "unheard-of", "model": 0.5}]}}, "BadRequest", "params.loras"),
    ({"params": {"loras": [{"name": "a", "is_version": True}]}}, "BadRequest", "is_version"),
    ({"params": {"loras": [{"name": "a", "model": 1, "clip": 0.2}]}}, "BadRequest", "clip"),
    ({"source_mask": "AAAA"}, "SourceMaskUnnecessary", "inpainting"),
    ({"source_processing": "inpainting"}, "BadRequest", "source_processing"),
    ({"extra_source_images": [{"image": "AAAA"}]}, "BadRequest", "extra_source_images"),
    ({"style": "0d3c7b2e"}, "BadRequest", "style"),
    ({"source_image": "https://example.com/a.png"}, "SourceImageUnreadable", "address"),
    ({"source_image": "AAAA"}, "SourceImageUnreadable", "source_image"),
    ({"r2": "perhaps"}, "BadRequest", "r2"),
    ({"memo": "always"}, "BadRequest", "memo"),
    ({"webhook": "https://example.com/"}, "BadRequest", "JOBS_WEBHOOK_SECRET"),
]


@pytest.mark.parametrize(("change", "rc", "text"), REFUSED, ids=lambda value: str(value)[:40])
def test_unsupported_fields_are_refused_by_name(client, job_store, change, rc, text):
    answer = client.post("/api/v2/generate/async", json={**FOX, "params": {"width": 64, "height": 64}, **change})
    assert (answer.status_code, answer.json["rc"]) == (400, rc) and text in answer.json["message"]
    assert answer.json.keys() == {"message", "rc"} and job_store.jobs.recent(1) == []


def test_an_empty_list_of_params_counts_as_none(client):
    assert client.post("/api/v2/generate/async", json={**FOX, "params": []}).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "status", "rc"),
    [
        ("get", "/generate/check/nope", 404, "RequestNotFound"),
        ("get", "/generate/status/6cf2ddf6-535f-4b1e-847e-a32040171f5a", 404, "RequestNotFound"),
        ("delete", "/generate/status/nope", 404, "RequestNotFound"),
        ("get", "/nothing", 404, "ThingNotFound"),
        ("get", "/generate/async", 405, "BadRequest"),
        ("post", "/generate/async", 415, "BadRequest"),
    ],
)
def test_errors_have_the_dialects_format(client, method, path, status, rc):
    answer = getattr(client, method)(f"/api/v2{path}")
    assert (answer.status_code, answer.json["rc"]) == (status, rc) and answer.json["message"]


def test_without_redis_the_error_is_maintenance_mode(client, monkeypatch):
    from memo import Unavailable

    def fail(*_, **__):
        raise Unavailable("the queue does not answer")

    monkeypatch.setattr(client.application.extensions["queue"], "submit", fail)
    answer = client.post("/api/v2/generate/async", json=FOX)
    assert (answer.status_code, answer.json["rc"]) == (503, "MaintenanceMode") and answer.headers["Retry-After"]


def test_heartbeat_and_find_user_respond(horde):
    assert horde.get("/status/heartbeat").json()["message"] == "OK"
    assert horde.get("/find_user").json()["username"] == "Anonymous#0"


@pytest.fixture
def guarded(memory, queue, tiny_models):
    """A client of a server that requires keys, and the headers of two users."""
    app = web.create_app(memory, queue, Catalogue(tiny_models), WebConfig(keys="required"), TESTING=True)
    keys = app.extensions["api_keys"]
    return app.test_client(), {name: {"apikey": keys.add(name)[1]} for name in ("ada", "bob")}


def test_a_request_is_visible_only_to_its_user(guarded, job_store):
    client, keys = guarded
    name = client.post("/api/v2/generate/async", json=FOX, headers=keys["ada"]).json["id"]
    for method, path in (("get", "check"), ("get", "status"), ("delete", "status")):
        call = getattr(client, method)
        answer = call(f"/api/v2/generate/{path}/{name}", headers=keys["bob"])
        assert (answer.status_code, answer.json["rc"]) == (404, "RequestNotFound")
        other = str(uuid.uuid4())
        unknown = call(f"/api/v2/generate/{path}/{other}", headers=keys["bob"])
        assert answer.text.replace(name, other) == unknown.text
        assert call(f"/api/v2/generate/{path}/{name}").status_code == 401
    assert not any(job.state.final for job in job_store.jobs.recent(9))
    assert client.get(f"/api/v2/generate/check/{name}", headers=keys["ada"]).status_code == 200


def test_the_anonymous_key_is_refused_where_keys_are_required(guarded):
    client, keys = guarded
    answer = client.post("/api/v2/generate/async", json=FOX, headers={"apikey": "0000000000"})
    assert (answer.status_code, answer.json["rc"]) == (401, "InvalidAPIKey")
    assert client.get("/api/v2/status/heartbeat").status_code == 200
    assert client.get("/api/v2/find_user", headers=keys["ada"]).json["username"] == "ada#0"


@pytest.mark.parametrize("as_url", [True, False])
def test_a_webhook_delivers_each_picture(horde, queue, memory, job_store, working, receiver, as_url, monkeypatch):  # noqa: F811
    queue.webhooks = Webhooks(job_store, SECRET, Receivers("127.0.0.1"))
    name = submit(horde, webhook=receiver.url, r2=as_url)
    seeds = {generation["id"]: generation["seed"] for generation in wait_for_status(horde, name)["generations"]}
    deliverer = Deliverer(queue.webhooks, memory)
    while deliverer.deliver_next():
        pass
    assert {result["id"]: result["seed"] for result in receiver.bodies} == seeds
    monkeypatch.setattr(links, "LINK_SECONDS", -1)  # the links in a delivery are valid for longer
    for (headers, body), result in zip(receiver.deliveries, receiver.bodies, strict=True):
        standardwebhooks.Webhook(SECRET).verify(body, headers)
        assert (result["request"], result["kudos"]) == (name, 0)
        image = httpx.get(result["img"]).content if as_url else base64.b64decode(result["img"])
        assert open_image(image).format == "WEBP"


def section(title):
    return (ROOT / "docs" / "clients.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_examples_of_the_documentation_run(url, working, capsys):
    [python] = re.findall(r"^```python\n(.*?)^```", section("AI-Horde"), re.S | re.M)
    exec(python.replace("http://localhost:8000", url), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith(url) and "painted" in line for line in lines)


def test_the_documented_signature_check_works():
    names, secret = {}, generate_secret()
    exec(re.findall(r"^```python\n(.*?)^```", section("Webhooks"), re.S | re.M)[0], names)
    headers = signature_headers(secret, "1", int(time.time()), b"{}")
    assert names["is_genuine"](secret, headers, b"{}")
    assert not names["is_genuine"](generate_secret(), headers, b"{}")
    assert not names["is_genuine"](secret, headers, b"[]")
