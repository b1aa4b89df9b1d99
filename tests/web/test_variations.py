"""Prompts of one meaning share a pool of pictures: variations and requests for several never repeat a picture."""

import pytest

from tests.real import finished, wait_for
from web.auth import VISITOR

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 8}
PARAPHRASE = {**FOX, "prompt": "please draw the red fox in snow"}


@pytest.fixture
def ask(client, queue, memory):
    """Send a request; returns its finished jobs once their pictures are indexed."""

    def send(url="/api/v1/jobs", **body):
        answer = client.post(url, json=body).json
        jobs = [finished(queue, job["id"]) for job in answer.get("jobs", [answer])]
        wait_for(lambda: all(memory.index.get(job.picture.key) for job in jobs))
        return jobs

    return send


def key_of(jobs):
    [job] = jobs
    return job.picture.key


def variation(job):
    return f"/api/v1/jobs/{job.id}/variation"


def test_variations_come_from_the_pool_until_it_is_used_up(ask, working):
    keys = {key_of(ask(**FOX, memo="off")) for _ in range(2)}
    [first] = ask(**PARAPHRASE)
    [second] = ask(variation(first))
    [third] = ask(variation(second))
    assert [job.origin for job in (first, second, third)] == ["memory", "memory", "painted"]
    assert {first.picture.key, second.picture.key} == keys and third.picture.key not in keys
    assert "shown already" in third.reason


def test_a_variation_is_new_to_the_user_across_chains_of_variations(ask, working):
    keys = {key_of(ask(**FOX, memo="off")) for _ in range(2)}
    [first] = ask(**FOX, user="ada")
    [second] = ask(variation(first))
    [third] = ask(**FOX, user="ada")
    assert third.picture.key in keys and third.origin == "memory"  # a repeated request may repeat a picture
    [fourth] = ask(variation(third))
    assert second.picture.key in keys and fourth.origin == "painted"
    [other] = ask(**FOX, user="grace")
    assert key_of(ask(variation(other))) in keys | {fourth.picture.key}


def test_a_browser_is_recognized_by_its_cookie(client, ask, working):
    client.get("/")
    cookie = client.get_cookie(VISITOR)
    assert cookie and cookie.http_only and len(cookie.value) == 32
    [first] = ask(**FOX)
    assert first.user == cookie.value
    client.get("/")
    assert client.get_cookie(VISITOR).value == cookie.value
    answer = client.post(f"/jobs/{first.id}/variation")
    assert answer.status_code == 303 and "/jobs/" in answer.headers["Location"]
    assert "Another one" in client.get(f"/jobs/{first.id}").text
    assert client.post("/jobs/unknown/variation").status_code == 404


def test_a_variation_does_not_join_the_painting_that_the_user_waits_for(client, painter, working):
    painter.go_on.clear()
    first = client.post("/api/v1/jobs", json=FOX).json
    second = client.post(f"/api/v1/jobs/{first['id']}/variation").json
    joined = client.post("/api/v1/jobs", json=PARAPHRASE).json
    painter.go_on.set()
    assert (first["origin"], second["origin"], joined["origin"]) == ("painted", "painted", "joined")


def test_a_variation_ignores_the_seed(ask, working):
    [first] = ask(**FOX, seed=7)
    [second] = ask(variation(first))
    assert first.picture.recipe.seed == 7 != second.picture.recipe.seed and second.origin == "painted"


def test_memory_answers_part_of_a_request_for_several_pictures_and_the_rest_is_painted(client, ask, working):
    keys = {key_of(ask(**FOX, memo="off")) for _ in range(2)}
    jobs = ask(**PARAPHRASE, count=4)
    assert [job.origin for job in jobs] == ["memory", "memory", "painted", "painted"]
    assert len({job.picture.key for job in jobs}) == 4 and {job.picture.key for job in jobs[:2]} == keys
    answer = client.post("/api/v1/jobs", json={**PARAPHRASE, "count": 4})
    assert answer.status_code == 200 and len({job["picture"]["key"] for job in answer.json["jobs"]}) == 4


def test_several_new_pictures_are_painted_separately(client, ask, working):
    assert client.post("/api/v1/jobs", json={**FOX, "count": 2, "prompt": "a cat"}).status_code == 202
    jobs = ask(**FOX, count=3)
    assert {job.origin for job in jobs} == {"painted"} and len({job.picture.key for job in jobs}) == 3


def test_several_pictures_with_a_seed_get_consecutive_seeds(ask, working):
    jobs = ask(**FOX, count=3, seed=2**53 - 2)
    assert [job.picture.recipe.seed for job in jobs] == [2**53 - 2, 2**53 - 1, 0]


def test_an_answer_reported_wrong_leaves_the_pool(client, ask, working):
    first, second = (ask(**FOX, memo="off")[0] for _ in range(2))
    [served] = ask(**PARAPHRASE)
    client.post(f"/api/v1/jobs/{served.id}/label", json={"right": False})
    [remaining] = ask(**PARAPHRASE)
    assert {served.picture.key, remaining.picture.key} == {first.picture.key, second.picture.key}


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", 0), ("count", 9), ("count", "2"), ("count", True), ("user", 7), ("user", "x" * 129)],
)
def test_a_bad_count_or_user_is_refused(client, field, value):
    answer = client.post("/api/v1/jobs", json={**FOX, field: value})
    assert answer.status_code == 422 and answer.json["field"] == field


def test_a_variation_of_an_unknown_job_is_a_404(client):
    assert client.post("/api/v1/jobs/unknown/variation").status_code == 404
