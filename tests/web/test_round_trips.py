"""How many round trips to Redis a request for a picture takes, as Redis's MONITOR shows them."""

from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient

from jobs.queue import Queue
from memo import Picture

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
CAT = {"prompt": "a black cat on a sofa", "width": 64, "height": 64}
MARK = "the request was answered"
IDLE_WORKER = "BRPOP"  # sent each second by a Celery worker of another test, never by the web


@pytest.fixture
def round_trips(client: FlaskClient, queue: Queue) -> Callable[..., tuple[int, list[str]]]:
    """Request a picture; returns the status and the command of every round trip to Redis."""

    def send(body: dict[str, object]) -> tuple[int, list[str]]:
        redis = queue.job_store.connection.redis
        with redis.monitor() as monitor:
            status = client.post("/api/v1/jobs", json=body).status_code
            redis.echo(MARK)
            return status, list(sent_by_clients(monitor.listen()))

    return send


def sent_by_clients(lines: Iterator[dict[str, str]]) -> Iterator[str]:
    """The commands that clients sent before MARK, not those that scripts ran; a transaction counts as one MULTI."""
    transaction = False
    for line in lines:
        name = line["command"].split()[0].upper()
        if MARK in line["command"]:
            return
        if line["client_type"] != "lua" and not transaction and name != IDLE_WORKER:
            yield name
        transaction = name == "MULTI" or (transaction and name != "EXEC")


def test_a_miss_takes_three_round_trips(round_trips: Callable[..., tuple[int, list[str]]]) -> None:
    """One reads the queue's length, one records the job and its painting, and one notifies a worker."""
    round_trips(CAT)  # connects, and loads the script
    assert round_trips(FOX) == (202, ["ZCARD", "EVALSHA", "LPUSH"])


def test_a_request_that_joins_a_painting_takes_one_round_trip(
    round_trips: Callable[..., tuple[int, list[str]]],
) -> None:
    for _ in range(2):
        round_trips(FOX)
    assert round_trips(FOX) == (202, ["EVALSHA"])


def test_a_hit_takes_one_round_trip(
    round_trips: Callable[..., tuple[int, list[str]]], remember: Callable[..., Picture], client: FlaskClient
) -> None:
    remember(client.application.extensions["catalogue"].recipe(FOX))
    round_trips(FOX)
    assert round_trips(FOX) == (200, ["EVALSHA"])
