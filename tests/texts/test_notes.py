"""What is done differently from what a request says, stands in the answer of every dialect."""

import pytest

REPLY = 'Of course! Here is a prompt for you:\n\n**Prompt:** "a red fox in the snow"'
WILD = "a __colour__ fox"
SIDES = {"width": 64, "height": 64}


@pytest.mark.parametrize(
    ("prompt", "kept", "words"),
    [
        (REPLY, "a red fox in the snow", "Here is a prompt for you"),
        (WILD, "a colour fox", "__colour__"),
        ("a {red|red} fox", "a red fox", "from {red|red}"),
    ],
)
def test_every_dialect_says_what_was_changed_in_a_prompt(client, queue, working, prompt, kept, words):
    job = client.post("/api/v1/jobs", json={"prompt": prompt, **SIDES}).json
    assert job["prompt"] == kept and words in " ".join(job["notes"])
    assert client.get(job["links"]["self"]).json["notes"] == job["notes"]

    openai = client.post("/v1/images/generations", json={"prompt": prompt, "size": "64x64"}).json
    assert words in " ".join(openai["memo"]["notes"]) and openai["data"][0]["revised_prompt"] == kept

    a1111 = client.post("/sdapi/v1/txt2img", json={"prompt": prompt, **SIDES}).json
    assert words.replace('"', '\\"') in a1111["info"] and "Memo notes" in a1111["info"]

    horde = client.post("/api/v2/generate/async", json={"prompt": prompt, "params": SIDES}).json
    assert words in " ".join(warning["message"] for warning in horde["warnings"])

    page = client.post("/", data={"prompt": prompt, "size": "64x64"}, follow_redirects=True)
    assert words in page.text and kept in page.text


def test_an_ordinary_prompt_has_no_notes(client):
    assert client.post("/api/v1/jobs", json={"prompt": "a red fox in the snow"}).json["notes"] == []


def test_each_picture_of_a_request_draws_its_own_choice(client):
    body = {"prompt": "a {red|blue|green|pink|grey|white} {fox|cat|dog|hen}", "count": 8, "memo": "off"}
    jobs = client.post("/api/v1/jobs", json=body).json["jobs"]
    assert len({job["prompt"] for job in jobs}) > 2
    for job in jobs:
        assert job["prompt"].split()[1] in job["notes"][0] and "{" not in job["prompt"]


def test_a_seed_draws_the_same_choice_and_picture_again(client, queue, working):
    body = {"prompt": "a {red|blue|green|pink|grey|white} fox", "seed": 5, **SIDES}
    first, second = (client.post("/api/v1/jobs", json=body).json for _ in range(2))
    assert (first["prompt"], first["recipe"]["seed"]) == (second["prompt"], second["recipe"]["seed"])


def test_a_choice_of_nothing_is_refused(client):
    answer = client.post("/api/v1/jobs", json={"prompt": "{|}"})
    assert answer.status_code == 422 and answer.json["field"] == "prompt"


def test_a_remembered_picture_and_a_joined_painting_come_with_notes(client, queue, working, painter):
    painter.go_on.clear()
    client.post("/api/v1/jobs", json={"prompt": "a red fox in the snow", **SIDES})
    joined = client.post("/api/v1/jobs", json={"prompt": REPLY, **SIDES}).json
    assert joined["origin"] == "joined" and joined["notes"]
    assert client.get(joined["links"]["self"]).json["notes"] == joined["notes"]
    painter.go_on.set()
