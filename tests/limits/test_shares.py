"""A full queue still admits whoever has less than their share of it, and every request that writes counts."""

import io
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from memo import Picture, Recipe
from web.api.audit import MAX_LABELS
from web.limits.rates import CHARGED_WITH_PICTURES, UNCHARGED

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
Serve, ClientFor = Callable[..., Flask], Callable[..., FlaskClient]


def statuses(client: FlaskClient, count: int) -> list[int]:
    """The statuses of requests for this many paintings that nobody else asks for."""
    bodies = [{**FOX, "seed": seed} for seed in range(count)]
    return [client.post("/api/v1/jobs", json=body).status_code for body in bodies]


def test_one_user_cannot_take_all_places_of_the_queue(serve: Serve, client_for: ClientFor) -> None:
    app = serve(queue_cap="6")
    ada, bob, carol = (client_for(app, name) for name in ("ada", "bob", "carol"))
    assert statuses(ada, 7) == [202] * 6 + [503]
    assert statuses(bob, 4) == [202] * 3 + [503]
    assert statuses(carol, 3) == [202] * 2 + [503]
    assert statuses(ada, 1) == [503]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/pictures/{key}/feedback", {"right": False}),
        ("POST", "/sdapi/v1/options", {}),
        ("POST", "/sdapi/v1/png-info", {"image": "AAAA"}),
        ("DELETE", "/api/v1/pictures/{key}", None),
    ],
)
def test_a_request_that_writes_counts_towards_the_rate(
    serve: Serve,
    client_for: ClientFor,
    remember: Callable[..., Picture],
    recipe: Recipe,
    method: str,
    path: str,
    body: object,
) -> None:
    ada = client_for(serve(rate="1/hour"), "ada", scope="shared")
    picture = remember(recipe)
    url = path.format(key=picture.key)
    assert ada.open(url, method=method, json=body).status_code != 429
    refused = ada.open(url, method=method, json=body)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0


def test_uploads_of_a_key_are_limited_like_its_pictures(serve: Serve, client_for: ClientFor) -> None:
    ada = client_for(serve(), "ada", daily=2)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    answers = [ada.post("/api/v1/init-images", data=file.getvalue(), content_type="image/png") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert ada.post("/api/v1/jobs", json=FOX).status_code == 202


def test_every_exception_from_charging_is_a_route_that_writes(guarded: Flask) -> None:
    rules = [rule for rule in guarded.url_map.iter_rules() if rule.methods and rule.methods & {"POST", "DELETE"}]
    names = {rule.endpoint for rule in rules}
    assert {*CHARGED_WITH_PICTURES, *UNCHARGED} <= names


def test_of_all_requests_that_write_only_these_count_for_nothing() -> None:
    """Whoever adds one here says why it may be sent without limit."""
    cancelling = {"api.cancel_job", "job.cancel", "horde.cancel", "a1111.interrupt", "a1111.skip"}
    reading = {"internal.progress_of_task"}
    limited_by_address = {"sign_in.submit", "sign_in.sign_out"}
    assert set(UNCHARGED) == cancelling | reading | limited_by_address


def test_the_labels_of_a_user_for_one_picture_are_limited(
    serve: Serve, client_for: ClientFor, remember: Callable[..., Picture], recipe: Recipe
) -> None:
    app, picture = serve(), remember(recipe)
    ada, bob = (client_for(app, name, scope="shared") for name in ("ada", "bob"))
    path = f"/api/v1/pictures/{picture.key}/feedback"

    def label(client: FlaskClient, number: int, *, right: bool = False) -> int:
        return client.post(path, json={"right": right, "prompt": f"a wolf of {number} years"}).status_code

    assert [label(ada, number) for number in range(MAX_LABELS + 1)] == [204] * MAX_LABELS + [409]
    assert label(ada, 3, right=True) == 204 and label(bob, 99) == 204
