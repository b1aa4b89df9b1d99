"""No route reveals one user's jobs or pictures to another.

Every route must be in one of the tables below, or a test fails. Add the request with which Bob would get at Ada's
data, or add the route to NO_USER_DATA.
"""

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from flask.testing import FlaskClient
from PIL import Image

from jobs.job import Claim, Job, State
from jobs.store.job_store import JobStore
from memo import SHARED, Memory, Picture
from memo.index import open_index
from memo.picture import key_in, scope_of
from memoaized.reindex import re_embed
from tests.real import finished, painted, wait_for

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 8}
WOLF = {**FOX, "prompt": "a grey wolf in the woods"}
HTML = {"Accept": "text/html"}


@dataclass
class FakeWorker:
    """A stand-in for a worker: paints waiting jobs of every scope; prompts in `held` stay under way."""

    job_store: JobStore
    memory: Memory
    held: set[str] = field(default_factory=set)
    idle: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Work until stopped."""
        claims: list[Claim] = []
        while not self.stop.wait(0.005):
            if claim := self.job_store.claims.claim("stickers"):
                claims.append(claim)
            claims = [claim for claim in claims if not self.finish(claim)]

    def finish(self, claim: Claim) -> bool:
        """Paint the claim's picture unless its prompt is held; returns whether the claim has ended."""
        if self.job_store.progress.report_step(claim, 1) != "go on":
            return self.job_store.progress.end_cancelled(claim)
        if self.idle or claim.recipe.prompt in self.held:
            return False
        picture, png = painted(claim.recipe, seed=claim.recipe.seed, scope=claim.scope)
        self.memory.keep(picture, png)
        self.memory.index_picture(picture, new=True)
        self.job_store.progress.complete(claim, picture)
        self.memory.painting_ended(claim.painting)
        return True


@pytest.fixture
def worker(job_store: JobStore, memory: Memory) -> Iterator[FakeWorker]:
    worker = FakeWorker(job_store, memory)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.stop.set()
    thread.join()


@dataclass
class World:
    """Ada has a picture, an answer from memory, and a painting under way; Bob knows their ids."""

    bob: FlaskClient
    ada: FlaskClient
    picture: Picture
    png: bytes
    done: Job
    answered: Job
    running: Job
    init_image: str

    @property
    def secrets(self) -> list[bytes]:
        """What no response to Bob may contain unless he sent it himself."""
        jobs = (self.done, self.answered, self.running)
        names = [self.picture.key, self.picture.scope, self.init_image, *(job.id for job in jobs)]
        names += [job.painting for job in jobs if job.painting]
        return [name.encode() for name in names] + [self.png[-60:], base64.b64encode(self.png)[:4000]]


@pytest.fixture
def world(guarded, client_for, worker, queue, memory) -> World:
    ada, bob = client_for(guarded, "ada"), client_for(guarded, "bob")
    done = finished(queue, ada.post("/api/v1/jobs", json={**FOX, "seed": 5}).json["id"])
    assert done.picture
    answered = ada.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the red fox in snow"}).json
    assert answered["origin"] == "memory"
    init_image = ada.post("/api/v1/init-images", data=png_of("#123456"), content_type="image/png").json["init_image"]
    worker.held.add(WOLF["prompt"])
    running = ada.post("/api/v1/jobs", json=WOLF).json["id"]
    wait_for(lambda: queue.job_store.jobs.find(running).state is State.RUNNING)
    queue.job_store.connection.redis.hset(
        f"{queue.job_store.connection.prefix}painting:{queue.job_store.jobs.find(running).painting}",
        "preview",
        "cHJldmlldw==",
    )
    png = ada.get(f"/api/v1/pictures/{done.picture.key}/image").data
    jobs = [queue.job_store.jobs.find(name) for name in (answered["id"], running)]
    return World(bob, ada, done.picture, png, done, *jobs, init_image)


def png_of(colour: str) -> bytes:
    """A small picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def upload_form(colour: str = "#abcdef"):
    return {"image": (io.BytesIO(png_of(colour)), "x.png"), "prompt": FOX["prompt"], "size": "64x64"}


def a1111(**more):
    return {"prompt": FOX["prompt"], "width": 64, "height": 64, "steps": 8, **more}


# Bob requests Ada's jobs and pictures by their ids: he gets the same response as for an id that does not exist.
BY_ID = {
    "api.job": lambda b, job, key: b.get(f"/api/v1/jobs/{job}"),
    "api.cancel_job": lambda b, job, key: b.delete(f"/api/v1/jobs/{job}"),
    "api.create_variation": lambda b, job, key: b.post(f"/api/v1/jobs/{job}/variation"),
    "api.events": lambda b, job, key: b.get(f"/api/v1/jobs/{job}/events"),
    "api.preview": lambda b, job, key: b.get(f"/api/v1/jobs/{job}/preview"),
    "api.picture": lambda b, job, key: b.get(f"/api/v1/pictures/{key}"),
    "api.image": lambda b, job, key: b.get(f"/api/v1/pictures/{key}/image"),
    "api.thumbnail": lambda b, job, key: b.get(f"/api/v1/pictures/{key}/thumbnail"),
    "api.delete_picture": lambda b, job, key: b.delete(f"/api/v1/pictures/{key}"),
    "audit.label_job": lambda b, job, key: b.post(f"/api/v1/jobs/{job}/label", json={"right": False}),
    "audit.feedback": lambda b, job, key: b.post(f"/api/v1/pictures/{key}/feedback", json={"right": False}),
    "audit.report_wrong": lambda b, job, key: b.post(f"/jobs/{job}/wrong"),
    "job.page": lambda b, job, key: b.get(f"/jobs/{job}"),
    "job.card": lambda b, job, key: b.get(f"/jobs/{job}/card"),
    "job.several": lambda b, job, key: b.get(f"/jobs?id={job}&id={job}"),
    "job.cancel": lambda b, job, key: b.post(f"/jobs/{job}/cancel"),
    "job.variation": lambda b, job, key: b.post(f"/jobs/{job}/variation"),
    "job.retry": lambda b, job, key: b.post(f"/jobs/{job}/retry"),
    "job.from_scratch": lambda b, job, key: b.post(f"/jobs/{job}/from-scratch"),
    "picture.page": lambda b, job, key: b.get(f"/pictures/{key}"),
}
# Bob's requests that could find Ada's pictures: lists, searches, and the same words, meaning or seed.
BY_WORDS = {
    "api.list_jobs": lambda b, w: b.get("/api/v1/jobs?limit=100"),
    "api.list_pictures": lambda b, w: [
        b.get("/api/v1/pictures"),
        b.get("/api/v1/pictures?near=red+fox"),
        b.get("/api/v1/pictures?mine=1"),
        b.get("/api/v1/pictures?before=99999999999"),
    ],
    "api.create_job": lambda b, w: [
        b.post("/api/v1/jobs", json=FOX),
        b.post("/api/v1/jobs", json={**FOX, "seed": 5}),
        b.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the red fox in snow", "memo": "relaxed"}),
        b.post("/api/v1/jobs", json={**WOLF, "prompt": "please draw the grey wolf in the woods"}),
        b.post("/api/v1/jobs", json=WOLF),
        b.post("/api/v1/jobs", json={**FOX, "count": 3}),
    ],
    "create.page": lambda b, w: [b.get("/"), b.get(f"/?picture={w.picture.key}")],
    "create.submit": lambda b, w: b.post("/", data={**FOX, "seed": "5"}, follow_redirects=True),
    "gallery.gallery": lambda b, w: [b.get("/gallery"), b.get("/gallery?q=red+fox"), b.get("/gallery?mine=1")],
    "gallery.new_pictures": lambda b, w: b.get("/gallery/new?since=0-0"),
    "init_images.upload": lambda b, w: b.post(
        "/api/v1/init-images", data=png_of("#123456"), content_type="image/png"
    ),
    "openai.generate": lambda b, w: b.post(
        "/v1/images/generations",
        json={"prompt": FOX["prompt"], "size": "64x64", "seed": 5, "response_format": "b64_json"},
    ),
    "openai.edit": lambda b, w: b.post("/v1/images/edits", data=upload_form("#123456")),
    "horde.generate": lambda b, w: b.post(
        "/api/v2/generate/async",
        json={"prompt": FOX["prompt"], "params": {"seed": "5", "width": 64, "height": 64, "steps": 8}},
    ),
    "a1111.txt2img": lambda b, w: b.post("/sdapi/v1/txt2img", json=a1111(seed=5)),
    "a1111.img2img": lambda b, w: b.post(
        "/sdapi/v1/img2img", json=a1111(init_images=[base64.b64encode(png_of("#123456")).decode()])
    ),
}
# Bob's requests for the state that is kept per user, sent while Ada has a painting under way.
PER_USER = {
    "api.webhook_secret": lambda b: b.get("/api/v1/webhook-secret"),
    "a1111.progress": lambda b: b.get("/sdapi/v1/progress"),
    "a1111.interrupt": lambda b: b.post("/sdapi/v1/interrupt"),
    "a1111.skip": lambda b: b.post("/sdapi/v1/skip"),
    "a1111.options": lambda b: b.get("/sdapi/v1/options"),
    "a1111.set_options": lambda b: b.post("/sdapi/v1/options", json={"sd_model_checkpoint": "slow"}),
    "internal.progress_of_task": lambda b: b.post("/internal/progress", json={"id_task": "hers"}),
    "internal.pending_tasks": lambda b: b.get("/internal/pending-tasks"),
}
ADMINS_ONLY = {  # other users get 403
    "audit.audit": ("GET", "/audit"),
    "audit.submit_audit": ("POST", "/audit"),
    "audit.export": ("GET", "/api/v1/labels"),
    "audit.stats": ("GET", "/api/v1/stats"),
    "metrics.metrics": ("GET", "/metrics"),
    "queue.page": ("GET", "/queue"),
    "queue.state": ("GET", "/queue/state"),
    "queue.history": ("GET", "/api/v1/stats/history"),
}
OWN_TESTS = {  # endpoints that a test of their own covers
    "gallery.events": "test_the_stream_of_new_pictures_shows_only_the_users_own",
    "horde.check": "test_a_horde_request_is_visible_only_to_its_user",
    "horde.status": "test_a_horde_request_is_visible_only_to_its_user",
    "horde.cancel": "test_a_horde_request_is_visible_only_to_its_user",
    "horde.find_user": "test_find_user_names_the_owner_of_the_key",
    "links.file": "test_a_link_works_without_a_key_and_does_not_reveal_the_scope",
}
NO_USER_DATA = {  # endpoints that hold no user's data
    "static",
    "health.health",
    "health.ready",
    "sign_in.page",
    "sign_in.submit",
    "sign_in.sign_out",
    "api.list_models",
    "openai.models",
    "openai.model",
    "horde.models",
    "horde.heartbeat",
    "openapi.docs",
    "openapi.openapi",
    "openapi.swagger",
    "a1111.cmd-flags",
    "a1111.embeddings",
    "a1111.extensions",
    "a1111.face-restorers",
    "a1111.hypernetworks",
    "a1111.latent_upscale_modes",
    "a1111.loras",
    "a1111.memory",
    "a1111.not_supported",
    "a1111.png_info",
    "a1111.prompt-styles",
    "a1111.realesrgan-models",
    "a1111.refresh-checkpoints",
    "a1111.refresh-embeddings",
    "a1111.refresh-loras",
    "a1111.refresh-vae",
    "a1111.reload-checkpoint",
    "a1111.samplers",
    "a1111.schedulers",
    "a1111.script-info",
    "a1111.scripts",
    "a1111.sd_models",
    "a1111.sd-modules",
    "a1111.sd-vae",
    "a1111.styles",
    "a1111.unload-checkpoint",
    "a1111.upscalers",
}
TABLES = (BY_ID, BY_WORDS, PER_USER, ADMINS_ONLY, OWN_TESTS, NO_USER_DATA)


def test_every_route_is_in_exactly_one_table(app):
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}
    names = [name for table in TABLES for name in table]
    assert routes - set(names) == set(), "add these routes to a table of tests/web/test_scope.py"
    assert len(names) == len(set(names)) and set(OWN_TESTS.values()) <= set(globals())


def leaked(world: World, data: bytes, sent: tuple[str, ...] = ()) -> list[bytes]:
    """Ada's secrets in a response, apart from those that Bob sent himself."""
    known = {name.encode() for name in sent}
    return [secret for secret in world.secrets if secret in data and secret not in known]


def test_other_users_jobs_and_pictures_look_as_if_they_did_not_exist(world, queue, memory):
    for endpoint, call in BY_ID.items():
        for job in (world.running.id, world.done.id, world.answered.id):
            response = call(world.bob, job, world.picture.key)
            missing = call(world.bob, "0" * 32, "0" * 32)
            assert response.status_code == missing.status_code == 404, endpoint
            assert not leaked(world, response.data, (job, world.picture.key)), endpoint
            hidden = response.data.replace(job.encode(), b"0" * 32).replace(world.picture.key.encode(), b"0" * 32)
            assert hidden == missing.data, endpoint
    assert not queue.job_store.jobs.find(world.running.id).state.final and memory.has(world.picture.key)
    assert list(memory.labels.all()) == [] and memory.index.get(world.picture.key) == world.picture


def test_the_requests_by_id_reach_their_routes(world):
    """Ada succeeds at each of them, so Bob's 404 is not due to a wrong path."""
    destructive = ("api.cancel_job", "job.cancel", "api.delete_picture", "audit.report_wrong", "audit.feedback")
    for endpoint, call in BY_ID.items():
        if endpoint not in (*destructive, "api.events"):
            job = world.answered if endpoint == "audit.label_job" else world.running
            assert call(world.ada, job.id, world.picture.key).status_code < 400, endpoint


@pytest.mark.parametrize("endpoint", BY_WORDS)
def test_words_meaning_or_seed_never_find_another_users_pictures(world, worker, endpoint):
    waits_for_pictures = endpoint.startswith(("openai", "a1111"))
    worker.idle = not waits_for_pictures  # so that nothing Bob receives is his own
    answers = BY_WORDS[endpoint](world.bob, world)
    for answer in answers if isinstance(answers, list) else [answers]:
        assert answer.status_code < 400, (endpoint, answer.text)
        assert not leaked(world, answer.data), endpoint
        document = answer.json if answer.is_json else {}
        for job in document.get("jobs", [document]):
            assert job.get("origin") != "memory", endpoint
        assert document.get("pictures", []) == []


def test_other_users_do_not_join_a_painting_under_way(world, queue):
    jobs = [
        world.bob.post("/api/v1/jobs", json=body).json
        for body in (WOLF, {**WOLF, "prompt": "draw a grey wolf in the woods"})
    ]
    assert jobs[0]["origin"] == "painted" and jobs[1]["origin"] in ("painted", "joined")
    paintings = {queue.job_store.jobs.find(job["id"]).painting for job in jobs}
    assert world.running.painting not in paintings and queue.job_store.jobs.find(world.running.id).waiters == 1
    hers = world.ada.post("/api/v1/jobs", json=WOLF).json
    assert hers["origin"] == "joined" and queue.job_store.jobs.find(hers["id"]).painting == world.running.painting


def test_the_same_recipe_and_seed_is_another_picture_in_another_scope(world, queue, memory):
    his = finished(queue, world.bob.post("/api/v1/jobs", json={**FOX, "seed": 5}).json["id"]).picture
    assert his.recipe == world.picture.recipe and his.key != world.picture.key != his.recipe.key
    assert his.scope != world.picture.scope and memory.has(his.key) and memory.has(world.picture.key)
    assert world.bob.delete(f"/api/v1/pictures/{his.key}").status_code == 204
    assert memory.has(world.picture.key) and not memory.has(his.key)


def test_nobody_can_delete_the_jobs_of_another_users_picture_that_is_deleted_already(world, memory, queue):
    memory.forget(world.picture.key)
    assert world.bob.delete(f"/api/v1/pictures/{world.picture.key}").status_code == 404
    assert queue.job_store.jobs.find(world.done.id) and queue.job_store.jobs.find(world.answered.id)
    assert world.ada.delete(f"/api/v1/pictures/{world.picture.key}").status_code == 204
    assert not queue.job_store.jobs.find(world.done.id) and not queue.job_store.jobs.find(world.answered.id)


def test_recalls_and_searches_read_texts_for_the_scope_of_their_user_only(world, memory, monkeypatch):
    """Otherwise their timing would reveal what other users do."""
    scopes, read = set(), memory.embedder.embed_or_load
    monkeypatch.setattr(memory.embedder, "embed", lambda text, scope: scopes.add(scope) or read(text, scope))
    for call in ("api.list_pictures", "api.create_job", "gallery.gallery"):
        BY_WORDS[call](world.bob, world)
    assert {scope.partition(".")[0] for scope in scopes} == {"bob"}


def test_nobody_can_start_from_another_users_picture(world, worker):
    for init_image in (world.picture.key, world.init_image):
        answer = world.bob.post("/api/v1/jobs", json={**FOX, "init_image": init_image})
        assert answer.status_code == 422 and answer.json["field"] == "init_image"


def test_a_horde_request_is_visible_only_to_its_user(world, queue):
    body = {"prompt": WOLF["prompt"], "params": {"width": 64, "height": 64, "steps": 8}, "r2": False}
    name = world.ada.post("/api/v2/generate/async", json=body).json["id"]
    for method, path in (("GET", "check"), ("GET", "status"), ("DELETE", "status")):
        response = world.bob.open(f"/api/v2/generate/{path}/{name}", method=method)
        missing = world.bob.open(f"/api/v2/generate/{path}/{'0' * 36}", method=method)
        assert response.status_code == missing.status_code == 404 and not leaked(world, response.data)
        assert response.data.replace(name.encode(), b"0" * 36) == missing.data, path
    assert world.ada.get(f"/api/v2/generate/check/{name}").json["processing"] == 1


def test_find_user_names_the_owner_of_the_key(world):
    assert world.bob.get("/api/v2/find_user").json["username"] == "bob#0"


def test_idempotency_keys_of_two_users_do_not_clash(world):
    headers = {"Idempotency-Key": "same"}
    hers, his = (client.post("/api/v1/jobs", json=WOLF, headers=headers).json for client in (world.ada, world.bob))
    assert hers["id"] != his["id"] and his["origin"] == "painted"


@pytest.mark.parametrize("endpoint", PER_USER)
def test_state_kept_per_user_is_not_visible_to_others(world, worker, endpoint):
    worker.held.add("a blue cat")
    body = a1111(prompt="a blue cat", force_task_id="hers")
    hers: list[object] = []
    request = threading.Thread(target=lambda: hers.append(world.ada.post("/sdapi/v1/txt2img", json=body)))
    request.start()
    wait_for(lambda: "hers" in json.dumps(world.ada.get("/internal/pending-tasks").json) or is_under_way(world.ada))
    before = is_under_way(world.ada)
    answer = PER_USER[endpoint](world.bob)
    assert not is_under_way(world.bob) and "hers" not in answer.text and "blue cat" not in answer.text
    assert world.ada.get("/sdapi/v1/options").json["sd_model_checkpoint"].startswith("stickers")
    assert is_under_way(world.ada) == before
    worker.held.clear()
    request.join()
    assert len(hers[0].json["images"]) == 1


def is_under_way(client: FlaskClient) -> bool:
    """Whether this user sees the task under way."""
    progress = client.post("/internal/progress", json={"id_task": "hers"}).json
    return bool(progress["active"] or progress["queued"])


@pytest.mark.parametrize("endpoint", ADMINS_ONLY)
def test_data_about_all_users_is_for_admins_only(world, endpoint):
    method, path = ADMINS_ONLY[endpoint]
    answer = world.bob.open(
        path, method=method, data={"job": world.answered.id, "right": "no"} if method == "POST" else None
    )
    assert answer.status_code == 403 and not leaked(world, answer.data)


def test_an_admin_sees_all(world, guarded, client_for):
    root = client_for(guarded, "root", role="admin")
    assert root.get(f"/api/v1/jobs/{world.done.id}").json["picture"]["key"] == world.picture.key
    assert root.get(f"/api/v1/pictures/{world.picture.key}/image").status_code == 200
    assert world.answered.id in {job["id"] for job in root.get("/api/v1/jobs").json["jobs"]}
    assert world.answered.id in root.get("/audit").text
    assert root.get("/api/v1/pictures").json["pictures"] == []  # the gallery shows only the admin's own scope


def test_the_stream_of_new_pictures_shows_only_the_users_own(world, queue):
    his = finished(queue, world.bob.post("/api/v1/jobs", json=FOX).json["id"]).picture
    for client, key in ((world.bob, his.key), (world.ada, world.picture.key)):
        stream = client.get("/gallery/events?since=0-0", buffered=False)
        first = next(text for chunk in stream.response if "event: picture" in (text := as_text(chunk)))
        stream.close()
        assert key in first and ({his.key, world.picture.key} - {key}).pop() not in first


def as_text(chunk: bytes | str) -> str:
    return chunk if isinstance(chunk, str) else chunk.decode()


def test_a_link_works_without_a_key_and_does_not_reveal_the_scope(world, guarded, worker):
    """Clients of the OpenAI dialect expect a link that works without a key; it is valid for an hour."""
    worker.held.clear()
    body = {"prompt": FOX["prompt"], "size": "64x64", "response_format": "url"}
    url = world.ada.post("/v1/images/generations", json=body).json["data"][0]["url"]
    with guarded.test_client().get(url) as file:
        assert file.status_code == 200 and world.picture.scope.encode() not in file.data
    broken = url[:-4] + ("AAAA" if not url.endswith("AAAA") else "BBBB")
    assert guarded.test_client().get(broken).status_code == 404


def test_a_downloaded_file_does_not_reveal_its_scope(world, memory):
    assert scope_of(memory.image(world.picture.key)) == world.picture.scope
    assert world.picture.scope.encode() not in world.png and scope_of(world.png) == SHARED
    assert Image.open(io.BytesIO(world.png)).text["parameters"].startswith(FOX["prompt"])


def test_users_of_one_scope_share_their_pictures(guarded, client_for, worker, queue):
    ada, eve = client_for(guarded, "ada"), client_for(guarded, "eve", scope="ada")
    done = finished(queue, ada.post("/api/v1/jobs", json=FOX).json["id"])
    again = eve.post("/api/v1/jobs", json=FOX).json
    assert again["origin"] == "memory" and again["picture"]["key"] == done.picture.key
    assert eve.get(f"/api/v1/jobs/{done.id}").status_code == 200


def test_in_the_shared_scope_a_picture_has_the_key_of_its_recipe(recipe):
    seeded = replace(recipe, seed=7)
    assert key_in(SHARED, seeded) == seeded.key
    assert len({seeded.key, key_in("ada", seeded), key_in("bob", seeded), key_in("", seeded)}) == 4


def test_a_worker_keeps_a_picture_in_the_scope_of_its_job(guarded, client_for, working, queue, memory):
    ada = client_for(guarded, "ada")
    done = finished(queue, ada.post("/api/v1/jobs", json=FOX).json["id"])
    assert done.picture and done.picture.key == done.key and memory.has(done.key)
    assert memory.picture(done.key).scope == done.scope != SHARED
    assert ada.post("/api/v1/jobs", json=FOX).json["origin"] == "memory"


def test_rebuilding_a_lost_index_includes_private_pictures(world, memory):
    index = open_index("memory:", "pictures-lost", memory.embedder.dimension)
    report = re_embed(memory.embedder, index, memory.store, lambda line: None)
    assert report.unreadable == [] and index.get(world.picture.key) == world.picture
    assert [picture.key for picture in index.newest(world.picture.scope, 9, None)] == [world.picture.key]
    assert index.newest(SHARED, 9, None) == []
