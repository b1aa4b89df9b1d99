"""A full queue still admits whoever has less than their share of it, whoever waits there."""

from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

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
