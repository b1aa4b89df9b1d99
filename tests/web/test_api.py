"""The JSON API over the real queue, Redis, index and store."""

import io
import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from memo import read_png
from tests.real import ROOT, finished, wait_for
from worker.jobs import State

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}


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

    alike = client.post("/api/v1/jobs", json={**FOX, "prompt": "A red fox in snow"})
    assert (alike.status_code, alike.json["match"]["how"]) == (200, "same meaning")
    assert alike.json["picture"]["key"] == done["picture"]["key"] and "a red fox in the snow" in alike.json["reason"]

    other = client.post("/api/v1/jobs", json={**FOX, "prompt": "a blue fox in the snow"})
    assert (other.status_code, other.json["origin"]) == (202, "painted") and "not blue" in other.json["reason"]


def test_the_same_prompt_at_once_is_joined(client, queue, working, painter):
    painter.go_on.clear()
    first, second = (client.post("/api/v1/jobs", json=FOX).json for _ in range(2))
    painter.go_on.set()
    assert (first["origin"], second["origin"]) == ("painted", "joined")
    assert finished(queue, first["id"]).picture == finished(queue, second["id"]).picture


def test_what_means_the_same_as_a_painting_under_way_is_joined(client, queue, working, painter):
    painter.go_on.clear()
    first = client.post("/api/v1/jobs", json=FOX).json
    second = client.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the red fox in snow"}).json
    third = client.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the red fox in snow", "memo": "off"}).json
    painter.go_on.set()
    assert (first["origin"], second["origin"], third["origin"]) == ("painted", "joined", "painted")
    assert "a red fox in the snow" in second["reason"]
    assert finished(queue, first["id"]).picture == finished(queue, second["id"]).picture


def test_a_painting_that_ended_unseen_is_not_waited_for(client, queue, memory, working):
    """Its worker died before it could strike it off."""
    done = paint(client, queue)
    memory.begun(done.painting, replace(done.recipe.wish, prompt="a blue fox"))
    again = client.post("/api/v1/jobs", json={**FOX, "prompt": "please draw the blue fox"})
    assert again.status_code == 202 and again.json["origin"] == "painted"
    assert finished(queue, again.json["id"]).picture
    wait_for(lambda: memory.pending.count() == 0)


def test_the_picture_is_served_whole_in_part_and_not_at_all_when_known(client, queue, working):
    picture = client.get(f"/api/v1/jobs/{paint(client, queue).id}").json["picture"]
    url = picture["links"]["image"]
    whole = client.get(url)
    assert whole.mimetype == "image/png" and "immutable" in whole.headers["Cache-Control"]
    assert Image.open(io.BytesIO(whole.data)).size == (64, 64)
    assert read_png(whole.data).key == picture["key"]
    assert client.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    part = client.get(url, headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.data) == (206, whole.data[:8])
    assert client.get(picture["links"]["self"]).json == picture


def test_a_deleted_picture_is_gone_and_is_painted_anew(client, queue, working):
    key = paint(client, queue).picture.key
    assert client.delete(f"/api/v1/pictures/{key}").status_code == 204
    for path in (f"/api/v1/pictures/{key}", f"/api/v1/pictures/{key}/image"):
        assert client.get(path).status_code == 404
    assert client.delete(f"/api/v1/pictures/{key}").status_code == 404
    assert client.post("/api/v1/jobs", json=FOX).status_code == 202


def test_the_gallery_pages_newest_first(client, queue, working):
    keys = [paint(client, queue, prompt=f"{number} foxes").picture.key for number in ("two", "three", "four")]
    first = client.get("/api/v1/pictures?limit=2").json
    second = client.get(f"/api/v1/pictures?limit=2&before={first['next']}").json
    listed = [picture["key"] for page in (first, second) for picture in page["pictures"]]
    assert listed == keys[::-1] and second["next"] is None


def test_the_memory_policy_is_obeyed(client, queue, working):
    paint(client, queue)
    for policy in ("off", "refresh"):
        assert client.post("/api/v1/jobs", json={**FOX, "memo": policy}).status_code == 202
    alike = {**FOX, "prompt": "A red fox in snow", "memo": "exact"}
    assert client.post("/api/v1/jobs", json=alike).status_code == 202


def test_an_explicit_seed_is_answered_by_its_own_picture_only(client, queue, working):
    key = paint(client, queue, seed=5).picture.key
    assert client.post("/api/v1/jobs", json={**FOX, "seed": 6}).status_code == 202
    same = client.post("/api/v1/jobs", json={**FOX, "seed": 5})
    assert (same.status_code, same.json["picture"]["key"]) == (200, key)


def test_a_job_is_cancelled_while_it_runs(client, queue, working, painter):
    painter.go_on.clear()
    job = client.post("/api/v1/jobs", json=FOX).json
    wait_for(lambda: queue.job(job["id"]).state is State.RUNNING)
    assert client.delete(job["links"]["self"]).json["state"] == "cancelled"
    painter.go_on.set()
    wait_for(lambda: not working.claims)
    assert painter.painted == [] and client.get("/api/v1/pictures").json["pictures"] == []


def test_events_tell_the_job_until_it_is_final(client, working):
    job = client.post("/api/v1/jobs", json=FOX).json
    stream = client.get(job["links"]["events"])
    assert stream.mimetype == "text/event-stream"
    messages = re.findall(r"event: job\ndata: (.*)\n\n", stream.text)
    states = [json.loads(message)["state"] for message in messages]
    assert states[-1] == "done" and json.loads(messages[-1])["picture"]["prompt"] == FOX["prompt"]


def test_jobs_are_listed_newest_first(client):
    ids = [client.post("/api/v1/jobs", json={**FOX, "prompt": f"fox {n}"}).json["id"] for n in ("one", "two")]
    assert {job["id"] for job in client.get("/api/v1/jobs").json["jobs"]} == set(ids)


def test_models_are_described(client):
    model, _slow = client.get("/api/v1/models").json["models"]
    assert model["name"] == "stickers" and model["defaults"]["width"] == 256 and 128 in model["sizes"]


def bad_inputs():
    """The rows of the table in docs/api.md: name, body, status, field."""
    text = (ROOT / "docs" / "api.md").read_text()
    for row in re.findall(r"^\| ([^|]+) \| `(\{.*?\})` \| (\d{3}) \| `(\w+)` \|", text, re.M):
        yield pytest.param(*row, id=row[0])


@pytest.mark.parametrize(("name", "body", "status", "field"), list(bad_inputs()))
def test_every_documented_bad_input_is_refused_as_documented(client, name, body, status, field):
    body = re.sub(r'"(.)×(\d+)"', lambda found: json.dumps(found[1] * int(found[2])), body)
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


def test_another_content_type_is_refused(client):
    answer = client.post("/api/v1/jobs", data='{"prompt": "fox"}', content_type="text/plain")
    assert answer.status_code == 415 and "Content-Type" in answer.json["detail"]


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs/nope", "/api/v1/pictures/nope", f"/api/v1/pictures/{'0' * 32}", "/api/v1/nothing"]
)
def test_what_is_not_there_is_404_in_problem_form(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=101", "limit=-1", "before=yesterday", "before=nan", "before=inf", "limit=٣"],
)
def test_a_bad_query_is_refused_by_name(client, query):
    answer = client.get(f"/api/v1/pictures?{query}")
    assert answer.status_code == 422 and answer.json["field"] == query.split("=")[0]


def test_pages_of_other_sites_are_refused(client):
    answer = client.post("/api/v1/jobs", json=FOX, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert client.get("/api/v1/models", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_wrong_method_says_which_are_right(client):
    answer = client.put("/api/v1/jobs", json=FOX)
    assert answer.status_code == 405 and "POST" in answer.headers["Allow"]


def test_every_answer_carries_the_guards(client):
    for path in ("/api/v1/models", "/", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
