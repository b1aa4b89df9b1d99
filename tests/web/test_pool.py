"""A meaning owns a pool of pictures: "another one" and several at once never give the same picture twice."""

import pytest

from tests.real import finished, wait_for
from web.auth import VISITOR

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 8}
ALIKE = {**FOX, "prompt": "please draw the red fox in snow"}


@pytest.fixture
def ask(client, queue, memory):
    """The finished jobs of a request, remembered."""

    def send(url="/api/v1/jobs", **body):
        answer = client.post(url, json=body).json
        jobs = [finished(queue, job["id"]) for job in answer.get("jobs", [answer])]
        wait_for(lambda: all(memory.index.get(job.picture.key) for job in jobs))
        return jobs

    return send


def key_of(jobs):
    [job] = jobs
    return job.picture.key


def another(job):
    return f"/api/v1/jobs/{job.id}/another"


def test_another_one_comes_from_the_pool_and_then_is_painted(ask, working):
    keys = {key_of(ask(**FOX, memo="off")) for _ in range(2)}
    [first] = ask(**ALIKE)
    [second] = ask(another(first))
    [third] = ask(another(second))
    assert [job.origin for job in (first, second, third)] == ["memory", "memory", "painted"]
    assert {first.picture.key, second.picture.key} == keys and third.picture.key not in keys
    assert "shown already" in third.reason


def test_a_user_is_not_given_again_what_was_given_in_another_chain(ask, working):
    keys = {key_of(ask(**FOX, memo="off")) for _ in range(2)}
    [first] = ask(**FOX, user="ada")
    [second] = ask(another(first))
    [third] = ask(**FOX, user="ada")
    assert third.picture.key in keys and third.origin == "memory"  # asking anew is no wish for another one
    [fourth] = ask(another(third))
    assert second.picture.key in keys and fourth.origin == "painted"
    [other] = ask(**FOX, user="grace")
    assert key_of(ask(another(other))) in keys | {fourth.picture.key}


def test_a_browser_is_known_by_its_cookie(client, ask, working):
    client.get("/")
    cookie = client.get_cookie(VISITOR)
    assert cookie and cookie.http_only and len(cookie.value) == 32
    [first] = ask(**FOX)
    assert first.user == cookie.value
    client.get("/")
    assert client.get_cookie(VISITOR).value == cookie.value
    page = client.post(f"/jobs/{first.id}/another")
    assert page.status_code == 303 and "/jobs/" in page.headers["Location"]
    assert "Another one" in client.get(f"/jobs/{first.id}").text
    assert client.post("/jobs/unknown/another").status_code == 404


def test_what_a_user_waits_for_is_not_another_one(client, painter, working):
    painter.go_on.clear()
    first = client.post("/api/v1/jobs", json=FOX).json
    second = client.post(f"/api/v1/jobs/{first['id']}/another").json
    joined = client.post("/api/v1/jobs", json=ALIKE).json
    painter.go_on.set()
    assert (first["origin"], second["origin"], joined["origin"]) == ("painted", "painted", "joined")


def test_another_one_drops_the_seed(ask, working):
    [first] = ask(**FOX, seed=7)
    [second] = ask(another(first))
    assert first.picture.recipe.seed == 7 != second.picture.recipe.seed and second.origin == "painted"


def test_of_four_pictures_memory_gives_what_it_has_and_the_rest_is_painted(client, ask, working):
    kept = {key_of(ask(**FOX, memo="off")) for _ in range(2)}
    jobs = ask(**ALIKE, count=4)
    assert [job.origin for job in jobs] == ["memory", "memory", "painted", "painted"]
    assert len({job.picture.key for job in jobs}) == 4 and {job.picture.key for job in jobs[:2]} == kept
    answer = client.post("/api/v1/jobs", json={**ALIKE, "count": 4})
    assert answer.status_code == 200 and len({job["picture"]["key"] for job in answer.json["jobs"]}) == 4


def test_several_that_nobody_painted_yet_are_painted_apart(client, ask, working):
    assert client.post("/api/v1/jobs", json={**FOX, "count": 2, "prompt": "a cat"}).status_code == 202
    jobs = ask(**FOX, count=3)
    assert {job.origin for job in jobs} == {"painted"} and len({job.picture.key for job in jobs}) == 3


def test_several_with_a_seed_have_seeds_that_follow(ask, working):
    jobs = ask(**FOX, count=3, seed=2**53 - 2)
    assert [job.picture.recipe.seed for job in jobs] == [2**53 - 2, 2**53 - 1, 0]


def test_a_wrong_answer_is_not_in_the_pool(client, ask, working):
    first, second = (ask(**FOX, memo="off")[0] for _ in range(2))
    [served] = ask(**ALIKE)
    client.post(f"/api/v1/jobs/{served.id}/label", json={"right": False})
    [left] = ask(**ALIKE)
    assert {served.picture.key, left.picture.key} == {first.picture.key, second.picture.key}


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", 0), ("count", 9), ("count", "2"), ("count", True), ("user", 7), ("user", "x" * 129)],
)
def test_a_bad_count_or_user_is_refused(client, field, value):
    answer = client.post("/api/v1/jobs", json={**FOX, field: value})
    assert answer.status_code == 422 and answer.json["field"] == field


def test_there_is_no_other_of_an_unknown_job(client):
    assert client.post("/api/v1/jobs/unknown/another").status_code == 404
