"""User feedback and audits: labels take effect, are counted and are exported."""

import pytest

from memo.judge.labelled_pairs import read_pairs

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 8}
PARAPHRASE = {**FOX, "prompt": "please draw the red fox in snow"}


@pytest.fixture
def answered(client, queue, working):
    """A painted job, and a job that memory answered by meaning."""
    first = client.post("/api/v1/jobs", json=FOX).json
    for _ in queue.watch(first["id"]):
        pass
    job = client.post("/api/v1/jobs", json=PARAPHRASE).json
    assert job["origin"] == "memory" and job["match"]["how"] == "same meaning"
    return first, job


def test_an_answer_reported_wrong_is_not_reused(client, queue, answered):
    """Prompts of nearly the same words do not get it either: they get the new picture."""
    _, job = answered
    assert client.post(f"/api/v1/jobs/{job['id']}/label", json={"right": False}).status_code == 204
    again = client.post("/api/v1/jobs", json=PARAPHRASE)
    assert again.status_code == 202 and again.json["origin"] == "painted"
    *_, painted = queue.watch(again.json["id"])
    third = client.post("/api/v1/jobs", json=FOX).json
    assert third["origin"] == "memory" and third["picture"]["key"] == painted.picture.key != job["picture"]["key"]


def test_only_answers_from_memory_can_be_labelled(client, answered):
    first, job = answered
    assert client.post(f"/api/v1/jobs/{first['id']}/label", json={"right": False}).status_code == 409
    assert client.post("/api/v1/jobs/unknown/label", json={"right": False}).status_code == 404
    for body in ({}, {"right": "no"}, {"right": 0}, {"right": True, "more": 1}):
        assert client.post(f"/api/v1/jobs/{job['id']}/label", json=body).status_code == 422


def test_audits_of_relaxed_answers_are_counted_separately(client, queue, working):
    first = client.post("/api/v1/jobs", json={**FOX, "prompt": "red fox sitting in deep snow at dusk"}).json
    for _ in queue.watch(first["id"]):
        pass
    job = client.post("/api/v1/jobs", json={**FOX, "prompt": "a fox in snow", "memo": "relaxed"}).json
    assert job["match"]["how"] == "shows more" and job["id"] in client.get("/audit").text
    assert client.post("/audit", data={"job": job["id"], "right": "no"}).status_code == 303
    stats = client.get("/api/v1/stats").json
    assert (stats["audited"]["answers"], stats["audited_relaxed"]["wrong"]) == (0, 1)
    assert job["id"] not in client.get("/audit").text


def test_only_the_page_of_a_remembered_picture_has_a_wrong_picture_button(client, answered):
    first, job = answered
    assert "Wrong picture" in client.get(f"/jobs/{job['id']}").text
    assert "Wrong picture" not in client.get(f"/jobs/{first['id']}").text
    answer = client.post(f"/jobs/{job['id']}/wrong")
    assert answer.status_code == 303
    page = client.get(answer.headers["Location"]).text
    assert PARAPHRASE["prompt"] in page and 'data-origin="painted"' in page


def test_an_audit_counts_each_answer_and_shows_it_only_once(client, answered):
    _, job = answered
    before = client.get("/api/v1/stats").json
    assert (before["jobs"], before["painted"], before["memory"], before["hit_rate"]) == (2, 1, 1, 0.5)
    assert before["seconds_saved"] >= 0
    assert before["audited"] == {"answers": 0, "wrong": 0, "false_hit_rate": None, "low": 0.0, "high": 1.0}
    page = client.get("/audit").text
    assert job["id"] in page and FOX["prompt"] in page and PARAPHRASE["prompt"] in page
    assert client.post("/audit", data={"job": job["id"], "right": "maybe"}).status_code == 422
    assert client.post("/audit", data={"job": job["id"], "right": "no"}).status_code == 303
    assert job["id"] not in client.get("/audit").text
    after = client.get("/api/v1/stats").json["audited"]
    assert (after["answers"], after["wrong"], after["false_hit_rate"]) == (1, 1, 1.0)
    assert 0.2 < after["low"] < 0.21 and after["high"] == 1.0


def test_user_feedback_does_not_count_as_an_audit(client, answered):
    _, job = answered
    client.post(f"/api/v1/jobs/{job['id']}/label", json={"right": False})
    assert client.get("/api/v1/stats").json["audited"]["answers"] == 0


def test_labels_are_exported_as_pairs_for_training_a_judge(client, answered, tmp_path):
    _, job = answered
    client.post(f"/api/v1/jobs/{job['id']}/label", json={"right": False})
    client.post("/audit", data={"job": job["id"], "right": "yes"})
    answer = client.get("/api/v1/labels")
    assert answer.mimetype == "application/jsonl"
    (tmp_path / "labels.jsonl").write_bytes(answer.data)
    pairs = read_pairs(tmp_path / "labels.jsonl")
    assert {(pair.a, pair.b, pair.y, pair.kind) for pair in pairs} == {
        (FOX["prompt"], PARAPHRASE["prompt"], 0, "user"),
        (FOX["prompt"], PARAPHRASE["prompt"], 1, "audit"),
    }
    assert len({pair.group for pair in pairs}) == 1
