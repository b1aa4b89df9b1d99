"""The JSON API over the real queue, Redis, index and store."""

import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest
from PIL import Image

from jobs.job import State
from memo import Unavailable, read_png
from memoaized import recipe_lookup
from tests.real import ROOT, finished, wait_for
from web.api import routes
from web.picture_requests import request_pictures

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
PRIVATE_FOR_EVER = {"private", "immutable"}  # no cache on the way may keep it, and the browser need not ask again


def paint(client, queue, **body):
    answer = client.post("/api/v1/jobs", json={**FOX, **body})
    assert answer.status_code == 202, answer.json
    return finished(queue, answer.json["id"])


def test_a_prompt_is_painted_and_then_remembered(client, queue, working):
    first = client.post("/api/v1/jobs", json=FOX)
    assert first.status_code == 202 and first.json["state"] in ("queued", "running")
    assert first.headers["Location"] == f"/api/v1/jobs/{first.json['id']}"
    finished(queue, first.json["id"])
    done = client.get(first.json["links"]["self"]).json
    assert (done["state"], done["origin"], done["step"], done["steps"]) == ("done", "painted", 8, 8)
    assert done["reason"] == "nothing like it is remembered"

    again = client.post("/api/v1/jobs", json=FOX)
    assert again.status_code == 200
    assert (again.json["state"], again.json["origin"]) == ("done", "memory")
    assert again.json["picture"] == done["picture"] and again.json["match"]["how"] == "same words"

    paraphrase = client.post("/api/v1/jobs", json={**FOX, "prompt": "A red fox in snow"})
    assert (paraphrase.status_code, paraphrase.json["match"]["how"]) == (200, "same meaning")
    assert paraphrase.json["picture"]["key"] == done["picture"]["key"]
    assert "a red fox in the snow" in paraphrase.json["reason"]

    other = client.post("/api/v1/jobs", json={**FOX, "prompt": "a blue fox in the snow"})
    assert (other.status_code, other.json["origin"]) == (202, "painted") and "not 'blue'" in other.json["reason"]


def test_the_same_prompt_sent_twice_at_once_is_painted_once(client, queue, working, painter):
    painter.go_on.clear()
    first, second = (client.post("/api/v1/jobs", json=FOX).json for _ in range(2))
    painter.go_on.set()
    assert (first["origin"], second["origin"]) == ("painted", "joined")
    assert finished(queue, first["id"]).picture == finished(queue, second["id"]).picture


def test_a_prompt_with_the_meaning_of_a_painting_under_way_joins_it(client, queue, working, painter):
    painter.go_on.clear()
    first = client.post("/api/v1/jobs", json=FOX).json
    second = client.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the red fox in snow"}).json
    third = client.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the red fox in snow", "memo": "off"}).json
    painter.go_on.set()
    assert (first["origin"], second["origin"], third["origin"]) == ("painted", "joined", "painted")
    assert "a red fox in the snow" in second["reason"]
    assert finished(queue, first["id"]).picture == finished(queue, second["id"]).picture


def test_nobody_waits_for_a_painting_that_is_still_listed_but_has_ended(client, queue, memory, working):
    """Its worker died before it could take the painting off the list."""
    done = paint(client, queue)
    memory.painting_started(done.painting, replace(done.recipe.wish, prompt="a blue fox"))
    again = client.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the blue fox"})
    assert again.status_code == 202 and again.json["origin"] == "painted"
    assert finished(queue, again.json["id"]).picture
    wait_for(lambda: memory.pending.count() == 0)


def test_image_requests_support_ranges_and_etags(client, queue, working):
    picture = client.get(f"/api/v1/jobs/{paint(client, queue).id}").json["picture"]
    url = picture["links"]["image"]
    whole = client.get(url)
    assert whole.mimetype == "image/png" and PRIVATE_FOR_EVER <= set(whole.headers["Cache-Control"].split(", "))
    assert Image.open(io.BytesIO(whole.data)).size == (64, 64)
    assert read_png(whole.data).key == picture["key"]
    assert client.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    part = client.get(url, headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.data) == (206, whole.data[:8])
    assert client.get(picture["links"]["self"]).json == picture


def test_a_deleted_picture_is_gone_and_is_painted_again(client, queue, working):
    key = paint(client, queue).picture.key
    assert client.delete(f"/api/v1/pictures/{key}").status_code == 204
    for path in (f"/api/v1/pictures/{key}", f"/api/v1/pictures/{key}/image"):
        assert client.get(path).status_code == 404
    assert client.delete(f"/api/v1/pictures/{key}").status_code == 404
    assert client.post("/api/v1/jobs", json=FOX).status_code == 202


def test_deleting_a_picture_removes_its_jobs_and_no_others(client, queue, working):
    deleted, remaining = paint(client, queue), paint(client, queue, prompt="two dogs")
    assert client.delete(f"/api/v1/pictures/{deleted.picture.key}").status_code == 204
    answer = client.get(f"/api/v1/jobs/{deleted.id}")
    assert answer.status_code == 404 and "until its picture is deleted" in answer.json["detail"]
    assert [job["id"] for job in client.get("/api/v1/jobs").json["jobs"]] == [remaining.id]
    assert FOX["prompt"] not in client.get(f"/jobs?id={deleted.id}&id={remaining.id}").text
    assert client.get(f"/jobs?id={deleted.id}").status_code == 404


def test_a_deletion_that_failed_halfway_is_finished_by_repeating_it(client, queue, working, job_store, monkeypatch):
    job = paint(client, queue)
    url = f"/api/v1/pictures/{job.picture.key}"
    with monkeypatch.context() as outage:
        outage.setattr(job_store.submissions, "forget", Mock(side_effect=Unavailable("the queue does not answer")))
        assert client.delete(url).status_code == 503 and client.get(url).status_code == 404
    assert client.get(f"/api/v1/jobs/{job.id}").status_code == 200
    assert [client.delete(url).status_code for _ in range(2)] == [204, 404]
    assert client.get(f"/api/v1/jobs/{job.id}").status_code == 404
    assert job_store.jobs.finished_pictures("0-0") == []


@pytest.mark.parametrize("step", ["labels.remove", "index.remove", "store.delete"])
def test_a_deletion_can_fail_at_any_step_and_be_repeated(client, queue, working, memory, monkeypatch, step):
    key, (part, method) = paint(client, queue).picture.key, step.split(".")
    client.post(f"/api/v1/pictures/{key}/feedback", json={"right": False, "prompt": "a grey wolf"})
    client.get(f"/api/v1/pictures/{key}/thumbnail").close()
    with monkeypatch.context() as outage:
        outage.setattr(getattr(memory, part), method, Mock(side_effect=Unavailable("away")))
        assert client.delete(f"/api/v1/pictures/{key}").status_code == 503
    assert client.delete(f"/api/v1/pictures/{key}").status_code == 204
    assert list(memory.store.names()) == [] and list(memory.labels.all()) == []


def test_the_last_picture_of_a_prompt_takes_the_reports_about_it_along(client, queue, working, memory):
    first, second = (paint(client, queue, seed=seed).picture.key for seed in (1, 2))
    other = paint(client, queue, prompt="two dogs").picture.key
    for key in (first, other):
        client.post(f"/api/v1/pictures/{key}/feedback", json={"right": False, "prompt": "a grey wolf"})
    client.delete(f"/api/v1/pictures/{first}")
    assert {label.key for label in memory.labels.all()} == {first, other}  # it still warns of the second picture
    client.delete(f"/api/v1/pictures/{second}")
    assert {label.key for label in memory.labels.all()} == {other}


def test_a_deleted_pictures_prompt_leaves_the_cache_of_embeddings(client, queue, working, memory, monkeypatch):
    forgotten = []
    monkeypatch.setattr(memory.embedder, "forget", lambda *text: forgotten.append(text))
    first, second = (paint(client, queue, seed=seed).picture.key for seed in (1, 2))
    client.delete(f"/api/v1/pictures/{first}")
    assert forgotten == []
    client.delete(f"/api/v1/pictures/{second}")
    assert forgotten == [(FOX["prompt"], "shared")]


def test_a_thumbnail_is_small_and_has_an_etag(client, queue, working):
    url = f"/api/v1/pictures/{paint(client, queue).picture.key}/thumbnail"
    small = client.get(url)
    assert small.mimetype == "image/webp" and PRIVATE_FOR_EVER <= set(small.headers["Cache-Control"].split(", "))
    assert Image.open(io.BytesIO(small.data)).size == (64, 64)
    assert client.get(url, headers={"If-None-Match": small.headers["ETag"]}).status_code == 304
    assert url in client.get("/gallery").text
    assert client.get("/api/v1/pictures/nope/thumbnail").status_code == 404


def test_the_gallery_pages_newest_first(client, queue, working):
    keys = [paint(client, queue, prompt=f"{number} foxes").picture.key for number in ("two", "three", "four")]
    first = client.get("/api/v1/pictures?limit=2").json
    second = client.get(f"/api/v1/pictures?limit=2&before={first['next']}").json
    listed = [picture["key"] for page in (first, second) for picture in page["pictures"]]
    assert listed == keys[::-1] and second["next"] is None


def test_the_memory_policy_is_followed(client, queue, working):
    paint(client, queue)
    for policy in ("off", "refresh"):
        assert client.post("/api/v1/jobs", json={**FOX, "memo": policy}).status_code == 202
    paraphrase = {**FOX, "prompt": "A red fox in snow", "memo": "exact"}
    assert client.post("/api/v1/jobs", json=paraphrase).status_code == 202


def test_a_request_with_a_seed_is_answered_only_by_the_picture_of_that_seed(client, queue, working):
    key = paint(client, queue, seed=5).picture.key
    assert client.post("/api/v1/jobs", json={**FOX, "seed": 6}).status_code == 202
    same = client.post("/api/v1/jobs", json={**FOX, "seed": 5})
    assert (same.status_code, same.json["picture"]["key"]) == (200, key)


def test_a_running_job_can_be_cancelled(client, queue, working, painter):
    painter.go_on.clear()
    job = client.post("/api/v1/jobs", json=FOX).json
    wait_for(lambda: queue.job_store.jobs.find(job["id"]).state is State.RUNNING)
    assert client.delete(job["links"]["self"]).json["state"] == "cancelled"
    painter.go_on.set()
    wait_for(lambda: not working.claims)
    assert painter.painted == [] and client.get("/api/v1/pictures").json["pictures"] == []


def test_the_event_stream_follows_a_job_until_it_is_final(client, working):
    job = client.post("/api/v1/jobs", json=FOX).json
    stream = client.get(job["links"]["events"])
    assert stream.mimetype == "text/event-stream"
    messages = re.findall(r"event: job\ndata: (.*)\n\n", stream.text)
    states = [json.loads(message)["state"] for message in messages]
    assert states[-1] == "done" and json.loads(messages[-1])["picture"]["prompt"] == FOX["prompt"]


def test_jobs_are_listed_newest_first(client):
    ids = [client.post("/api/v1/jobs", json={**FOX, "prompt": f"fox {n}"}).json["id"] for n in ("one", "two")]
    assert [job["id"] for job in client.get("/api/v1/jobs").json["jobs"]] == ids[::-1]


def test_models_are_listed_with_their_sizes_and_defaults(client):
    model, _slow = client.get("/api/v1/models").json["models"]
    assert model["name"] == "stickers" and model["defaults"]["width"] == 256 and 128 in model["sizes"]


def bad_inputs():
    """The rows of the table in docs/api.md: name, body, status, field."""
    text = (ROOT / "docs" / "api.md").read_text()
    for row in re.findall(r"^\| ([^|]+) \| `(\{.*?\})` \| (\d{3}) \| `(\w+)` \|", text, re.M):
        yield pytest.param(*row, id=row[0])


@pytest.mark.parametrize(("name", "body", "status", "field"), list(bad_inputs()))
def test_every_documented_bad_input_is_refused_as_documented(client, name, body, status, field):
    body = re.sub(r'"(.)×(\d+)"', lambda match: json.dumps(match[1] * int(match[2])), body)
    answer = client.post("/api/v1/jobs", data=body.encode(), content_type="application/json")
    assert (answer.status_code, answer.mimetype) == (int(status), "application/problem+json")
    problem = answer.json
    assert problem["field"] == field and problem["fix"] and "value" in problem
    assert problem["status"] == int(status) and problem["title"] and problem["detail"]
    assert client.get("/api/v1/jobs").json["jobs"] == []


def test_the_table_of_bad_inputs_is_not_empty():
    assert len(list(bad_inputs())) >= 25


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b'"fox"', 400),
        (b"null", 400),
        (b"\xff\xfe{}", 400),
        (b'{"prompt": "fox"', 400),
        (b"[" * 60_000, 400),
        (b'{"steps": ' + b"9" * 5000 + b"}", 400),
        (b'{"prompt": "' + b"a" * 70_000 + b'"}', 413),
    ],
)
def test_a_broken_body_is_refused_with_the_reason(client, data, status):
    answer = client.post("/api/v1/jobs", data=data, content_type="application/json")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json["detail"]


def test_a_body_that_is_not_json_is_refused(client):
    answer = client.post("/api/v1/jobs", data='{"prompt": "fox"}', content_type="text/plain")
    assert answer.status_code == 415 and "Content-Type" in answer.json["detail"]


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs/nope", "/api/v1/pictures/nope", f"/api/v1/pictures/{'0' * 32}", "/api/v1/nothing"]
)
def test_an_unknown_path_or_id_is_a_404_problem_document(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=101", "limit=-1", "before=yesterday", "before=nan", "before=inf", "limit=٣"],
)
def test_a_bad_query_parameter_is_refused_and_named(client, query):
    answer = client.get(f"/api/v1/pictures?{query}")
    assert answer.status_code == 422 and answer.json["field"] == query.split("=")[0]


def test_a_post_from_another_site_is_refused(client):
    answer = client.post("/api/v1/jobs", json=FOX, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert client.get("/api/v1/models", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_wrong_method_is_refused_with_the_allowed_methods(client):
    refused = client.put("/api/v1/jobs", json=FOX)
    assert refused.status_code == 405 and "POST" in refused.headers["Allow"]


def test_every_response_has_the_security_headers(client):
    for path in ("/api/v1/models", "/", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


KEY = {"Idempotency-Key": '"0b9c0a3e-5e5c-4c57-9a4e-2f0e6f3a7c11"'}


def test_two_requests_with_the_same_idempotency_key_create_one_set_of_jobs(client, working):
    first = client.post("/api/v1/jobs", json={**FOX, "count": 2}, headers=KEY)
    again = client.post(
        "/api/v1/jobs", json={"count": 2, **FOX}, headers={"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
    )
    assert again.status_code == first.status_code == 202 and again.headers["Idempotency-Replayed"] == "true"
    assert [job["id"] for job in again.json["jobs"]] == [job["id"] for job in first.json["jobs"]]
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 2 and "Idempotency-Replayed" not in first.headers


def test_an_idempotency_key_is_refused_with_a_different_request(client):
    job = client.post("/api/v1/jobs", json=FOX, headers=KEY).json
    other = client.post("/api/v1/jobs", json={**FOX, "steps": 9}, headers=KEY)
    assert other.status_code == 422 and "Idempotency-Key" in other.json["detail"]
    assert client.post(f"/api/v1/jobs/{job['id']}/variation", headers=KEY).status_code == 422
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 1


def test_two_simultaneous_requests_with_the_same_idempotency_key_are_carried_out_once(app, client, monkeypatch):
    """The second arrives while the first is still running."""
    bodies, started = [], threading.Event()

    def slowly(body):
        bodies.append(body)
        started.set()
        time.sleep(0.3)
        return request_pictures(body)

    monkeypatch.setattr(routes, "request_pictures", slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(app.test_client().post, "/api/v1/jobs", json={**FOX, "memo": "off"}, headers=KEY)
        assert started.wait(20)
        second = client.post("/api/v1/jobs", json={**FOX, "memo": "off"}, headers=KEY)
    assert second.json["id"] == first.result().json["id"] and len(bodies) == 1


def test_an_idempotency_key_can_be_reused_after_an_error(client):
    assert client.post("/api/v1/jobs", json={**FOX, "steps": 0}, headers=KEY).status_code == 422
    assert client.post("/api/v1/jobs", json=FOX, headers=KEY).status_code == 202


def test_idempotency_keys_of_different_users_are_independent(app):
    ada, grace = app.test_client(), app.test_client()
    ids = set()
    for visitor in (ada, grace):
        visitor.get("/")  # sets the visitor cookie
        ids.add(visitor.post("/api/v1/jobs", json={**FOX, "memo": "off"}, headers=KEY).json["id"])
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", '""', "a b", 'a"b', "a" * 256, "schl\xfcssel"])
def test_a_malformed_idempotency_key_is_refused(client, key):
    answer = client.post("/api/v1/jobs", json=FOX, headers={"Idempotency-Key": key})
    assert answer.status_code == 400 and "Idempotency-Key" in answer.json["detail"]


def test_a_picture_can_be_downloaded_as_webp_with_its_recipe(client, queue, working, tmp_path):
    picture = client.get(f"/api/v1/jobs/{paint(client, queue).id}").json["picture"]
    url = picture["links"]["image"] + "?format=webp"
    whole, small = client.get(url), client.get(url + "&quality=1")
    assert whole.mimetype == "image/webp" and small.data != whole.data
    assert len({answer.headers["ETag"] for answer in (whole, small, client.get(picture["links"]["image"]))}) == 3
    assert client.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert client.get(url, headers={"Range": "bytes=0-3"}).data == b"RIFF"
    head = client.head(url)
    assert head.headers["Content-Length"] == str(len(whole.data)) and not head.data
    (tmp_path / "fox.webp").write_bytes(small.data)
    assert f"key: {picture['key']}" in recipe_lookup.describe_recipe(str(tmp_path / "fox.webp"), tmp_path)


@pytest.mark.parametrize("query", ["format=gif", "quality=0", "quality=101", "quality=x", "redirect=yes"])
def test_bad_parameters_of_an_image_are_refused(client, queue, working, query):
    image = client.get(f"/api/v1/jobs/{paint(client, queue).id}").json["picture"]["links"]["image"]
    answer = client.get(f"{image}?{query}")
    assert answer.status_code == 422 and answer.json["field"] == query.split("=")[0]


def test_redirect_leads_to_the_store_if_it_serves_files_itself(client, queue, working, memory, monkeypatch):
    picture = client.get(f"/api/v1/jobs/{paint(client, queue).id}").json["picture"]
    url = picture["links"]["image"] + "?redirect=1"
    assert client.get(url).mimetype == "image/png"  # a folder serves no files
    monkeypatch.setattr(memory.store, "link", lambda name, seconds: f"https://store.example/{name}?signed")
    answer = client.get(url)
    assert answer.status_code == 302 and picture["key"] in answer.headers["Location"]
    assert client.get(f"/api/v1/pictures/{'0' * 32}/image?redirect=1").status_code == 404
    assert client.get(url + "&format=webp").mimetype == "image/webp"


def test_pictures_are_searched_by_meaning(client, queue, memory, working):
    keys = [paint(client, queue, prompt=prompt).picture.key for prompt in ("a red fox", "a castle by the sea")]
    wait_for(lambda: all(map(memory.index.get, keys)))
    results = client.get("/api/v1/pictures?near=fortress").json
    scores = [picture["score"] for picture in results["pictures"]]
    assert results["pictures"][0]["key"] == keys[1] and results["next"] is None
    assert scores == sorted(scores, reverse=True) and 0 < scores[0] <= 1
    assert client.get("/api/v1/pictures?near=fortress&model=slow").json["pictures"] == []
    assert client.get(f"/api/v1/pictures?near={'a' * 201}").status_code == 422


def test_pictures_are_filtered_by_model_and_owner(app, client, queue, memory, working):
    client.get("/")  # sets the visitor cookie
    mine = paint(client, queue).picture.key
    other = paint(app.test_client(), queue, prompt="a castle").picture.key
    wait_for(lambda: memory.index.get(mine) and memory.index.get(other))

    def listed(query):
        return [picture["key"] for picture in client.get(f"/api/v1/pictures?{query}").json["pictures"]]

    assert listed("mine=1") == [mine] and set(listed("mine=0")) == {mine, other}
    assert other not in listed("near=castle&mine=1") and listed("near=castle")[0] == other
    assert listed("model=slow") == [] and set(listed("model=stickers")) == {mine, other}


def test_a_picture_reported_wrong_for_a_prompt_is_not_reused_for_it(client, queue, memory, working):
    picture = paint(client, queue).picture
    wait_for(lambda: memory.index.get(picture.key))
    url = f"/api/v1/pictures/{picture.key}/feedback"
    paraphrase = {**FOX, "prompt": "A red fox in snow"}
    assert client.post("/api/v1/jobs", json=paraphrase).status_code == 200
    assert client.post(url, json={"right": False, "prompt": paraphrase["prompt"]}).status_code == 204
    assert client.post("/api/v1/jobs", json=paraphrase).status_code == 202


def test_a_picture_reported_wrong_without_a_prompt_is_not_reused_for_its_own_prompt(client, queue, memory, working):
    picture = paint(client, queue).picture
    wait_for(lambda: memory.index.get(picture.key))
    assert client.post(f"/api/v1/pictures/{picture.key}/feedback", json={"right": False}).status_code == 204
    assert client.post("/api/v1/jobs", json=FOX).status_code == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "right"),
        ({"right": "no"}, "right"),
        ({"right": True, "why": 1}, "why"),
        ({"right": True, "prompt": " "}, "prompt"),
    ],
)
def test_malformed_feedback_is_refused(client, remember, recipe, body, field):
    answer = client.post(f"/api/v1/pictures/{remember(recipe).key}/feedback", json=body)
    assert answer.status_code == 422 and answer.json["field"] == field
    assert client.post(f"/api/v1/pictures/{'0' * 32}/feedback", json={"right": True}).status_code == 404
