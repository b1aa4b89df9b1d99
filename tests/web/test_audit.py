"""People call answers right or wrong; what they say is heeded, counted and exported."""

import pytest

from memo.judge.labelled_pairs import read_pairs

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 8}
ALIKE = {**FOX, "prompt": "please draw the red fox in snow"}


@pytest.fixture
def answered(client, queue, working):
    """An answer by meaning."""
    first = client.post("/api/v1/jobs", json=FOX).json
    for _ in queue.watch(first["id"]):
        pass
    job = client.post("/api/v1/jobs", json=ALIKE).json
    assert job["origin"] == "memory" and job["match"]["how"] == "same meaning"
    return first, job


def test_an_answer_that_was_called_wrong_is_not_given_again(client, queue, answered):
    """Nor for what says the same in nearly the same words: they get the new picture."""
    _, job = answered
    assert client.post(f"/api/v1/jobs/{job['id']}/label", json={"right": False}).status_code == 204
    again = client.post("/api/v1/jobs", json=ALIKE)
    assert again.status_code == 202 and again.json["origin"] == "painted"
    *_, painted = queue.watch(again.json["id"])
    third = client.post("/api/v1/jobs", json=FOX).json
    assert third["origin"] == "memory" and third["picture"]["key"] == painted.picture.key != job["picture"]["key"]


def test_only_answers_from_memory_are_right_or_wrong(client, answered):
    first, job = answered
    assert client.post(f"/api/v1/jobs/{first['id']}/label", json={"right": False}).status_code == 409
    assert client.post("/api/v1/jobs/unknown/label", json={"right": False}).status_code == 404
    for body in ({}, {"right": "no"}, {"right": 0}, {"right": True, "more": 1}):
        assert client.post(f"/api/v1/jobs/{job['id']}/label", json=body).status_code == 422


def test_audits_of_relaxed_answers_are_counted_apart(client, queue, working):
    first = client.post("/api/v1/jobs", json={**FOX, "prompt": "red fox sitting in deep snow at dusk"}).json
    for _ in queue.watch(first["id"]):
        pass
    job = client.post("/api/v1/jobs", json={**FOX, "prompt": "a fox in snow", "memo": "relaxed"}).json
    assert job["match"]["how"] == "shows more" and job["id"] in client.get("/audit").text
    assert client.post("/audit", data={"job": job["id"], "right": "no"}).status_code == 303
    figures = client.get("/api/v1/stats").json
    assert (figures["audited"]["answers"], figures["audited_relaxed"]["wrong"]) == (0, 1)
    assert job["id"] not in client.get("/audit").text


def test_the_page_of_an_answer_has_a_button_for_a_wrong_one(client, answered):
    first, job = answered
    assert "Wrong reuse" in client.get(f"/jobs/{job['id']}").text
    assert "Wrong reuse" not in client.get(f"/jobs/{first['id']}").text
    answer = client.post(f"/jobs/{job['id']}/wrong")
    assert answer.status_code == 303
    page = client.get(answer.headers["Location"]).text
    assert ALIKE["prompt"] in page and 'data-origin="painted"' in page


def test_an_audit_samples_answers_counts_them_and_asks_only_once(client, answered):
    _, job = answered
    before = client.get("/api/v1/stats").json
    assert (before["jobs"], before["painted"], before["memory"], before["hit_rate"]) == (2, 1, 1, 0.5)
    assert before["seconds_saved"] >= 0
    assert before["audited"] == {"answers": 0, "wrong": 0, "false_hit_rate": None, "low": 0.0, "high": 1.0}
    page = client.get("/audit").text
    assert job["id"] in page and FOX["prompt"] in page and ALIKE["prompt"] in page
    assert client.post("/audit", data={"job": job["id"], "right": "maybe"}).status_code == 422
    assert client.post("/audit", data={"job": job["id"], "right": "no"}).status_code == 303
    assert job["id"] not in client.get("/audit").text
    after = client.get("/api/v1/stats").json["audited"]
    assert (after["answers"], after["wrong"], after["false_hit_rate"]) == (1, 1, 1.0)
    assert 0.2 < after["low"] < 0.21 and after["high"] == 1.0


def test_complaints_are_no_audit(client, answered):
    _, job = answered
    client.post(f"/api/v1/jobs/{job['id']}/label", json={"right": False})
    assert client.get("/api/v1/stats").json["audited"]["answers"] == 0


def test_labels_are_exported_as_pairs_that_a_judge_is_taught_by(client, answered, tmp_path):
    _, job = answered
    client.post(f"/api/v1/jobs/{job['id']}/label", json={"right": False})
    client.post("/audit", data={"job": job["id"], "right": "yes"})
    answer = client.get("/api/v1/labels")
    assert answer.mimetype == "application/jsonl"
    (tmp_path / "labels.jsonl").write_bytes(answer.data)
    pairs = read_pairs(tmp_path / "labels.jsonl")
    assert {(pair.a, pair.b, pair.y, pair.kind) for pair in pairs} == {
        (FOX["prompt"], ALIKE["prompt"], 0, "user"),
        (FOX["prompt"], ALIKE["prompt"], 1, "audit"),
    }
    assert len({pair.group for pair in pairs}) == 1
