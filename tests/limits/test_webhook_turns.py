"""Webhooks take turns by user and receiver, and each API key has a secret of its own."""

import time
from collections.abc import Callable

import pytest
import standardwebhooks
from flask import Flask
from flask.testing import FlaskClient

from jobs.queue import Queue
from jobs.store.job_store import JobStore
from jobs.webhooks.deliverer import Deliverer
from jobs.webhooks.deliveries import MAX_UNDER_WAY, Webhook, Webhooks
from jobs.webhooks.receivers import Receivers
from jobs.webhooks.signature import derive_secret, generate_secret, signature_headers
from memo import Memory, Recipe
from tests.real import wait_for

SECRET = generate_secret()
Serve, ClientFor = Callable[..., Flask], Callable[..., FlaskClient]


@pytest.fixture
def webhooks(job_store: JobStore) -> Webhooks:
    return Webhooks(job_store, SECRET, Receivers("127.0.0.0/8"))


@pytest.fixture
def add(webhooks: Webhooks, job_store: JobStore, recipe: Recipe) -> Callable[..., None]:
    """Return a function that adds deliveries which are due."""
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    job_store.submissions.cancel(job.id)

    def keep(user: str, receiver: str, count: int = 1) -> None:
        for _ in range(count):
            webhooks.add(job, Webhook(url=f"http://{receiver}/hook", job=job.id, key=user))

    return keep


def take(webhooks: Webhooks) -> str | None:
    """The user and the receiver of the next delivery."""
    delivery = webhooks.take_due()
    return f"{delivery.webhook.key} to {delivery.webhook.url.split('/')[2]}" if delivery else None


def test_a_receiver_that_never_answers_delays_no_other_user(webhooks: Webhooks, add: Callable[..., None]) -> None:
    add("ada", "slow.example", 16)
    add("bob", "quick.example")
    assert {take(webhooks), take(webhooks)} == {"ada to slow.example", "bob to quick.example"}
    assert take(webhooks) is None


def test_a_receiver_that_never_answers_delays_no_other_receiver(webhooks: Webhooks, add: Callable[..., None]) -> None:
    add("ada", "slow.example", 16)
    add("ada", "quick.example")
    assert {take(webhooks), take(webhooks)} == {"ada to slow.example", "ada to quick.example"}


def test_a_user_with_many_receivers_leaves_threads_to_others(webhooks: Webhooks, add: Callable[..., None]) -> None:
    for number in range(16):
        add("ada", f"slow-{number}.example")
    assert [take(webhooks) is None for _ in range(3)] == [False] * MAX_UNDER_WAY + [True]


def test_users_take_turns(webhooks: Webhooks, add: Callable[..., None]) -> None:
    add("ada", "a.example", 3)
    add("bob", "b.example", 3)
    users = []
    while delivery := webhooks.take_due():
        users.append(delivery.webhook.key)
        webhooks.remove(delivery)
    assert users in (["ada", "bob"] * 3, ["bob", "ada"] * 3)


def test_a_delivery_whose_worker_died_is_taken_again(
    webhooks: Webhooks, add: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("ada", "a.example")
    monkeypatch.setattr("jobs.webhooks.deliveries.LEASE_SECONDS", 0.2)
    first = webhooks.take_due()
    assert first and webhooks.take_due() is None
    time.sleep(0.3)
    again = webhooks.take_due()
    assert again and first.id == again.id


def test_who_can_verify_deliveries_to_one_key_cannot_sign_those_to_another() -> None:
    own, others = derive_secret(SECRET, "ada"), derive_secret(SECRET, "bob")
    assert len({own, others, SECRET}) == 3 and derive_secret(SECRET, "ada") == own
    forged = signature_headers(own, "1234", int(time.time()), b"{}")
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(others).verify(b"{}", forged)


def test_a_delivery_that_is_replayed_under_another_id_is_not_genuine() -> None:
    headers = signature_headers(SECRET, "1234", int(time.time()), b"{}")
    assert standardwebhooks.Webhook(SECRET).verify(b"{}", headers) == {}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(b"{}", {**headers, "webhook-id": "5678"})


def test_a_user_gets_the_secret_of_their_own_key(serve: Serve, client_for: ClientFor, queue: Queue) -> None:
    app = serve()
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    assert ada.get("/api/v1/webhook-secret").status_code == 404
    queue.webhooks = Webhooks(queue.job_store, SECRET)
    answers = [client.get("/api/v1/webhook-secret") for client in (ada, bob)]
    secrets = [answer.json["secret"] for answer in answers]
    assert len({*secrets, SECRET}) == 3 and answers[0].headers["Cache-Control"] == "no-store"
    [ada_key] = [key for key in app.extensions["api_keys"].all() if key.name == "ada"]
    assert queue.webhooks.secret_of(ada_key.id) == secrets[0]


def test_a_delivery_is_signed_with_the_secret_of_its_users_key(
    serve: Serve, client_for: ClientFor, queue: Queue, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.webhooks = Webhooks(queue.job_store, SECRET, Receivers("127.0.0.0/8"))
    sent: list[tuple[bytes, dict[str, str]]] = []
    monkeypatch.setattr(queue.webhooks.receivers, "post", lambda url, body, headers: sent.append((body, headers)))
    app = serve()
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    job = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "webhook": "http://127.0.0.1:9/hook"}
    created = ada.post("/api/v1/jobs", json=job).json["id"]
    assert ada.delete(f"/api/v1/jobs/{created}").status_code == 200  # final, so that its webhook is due
    wait_for(Deliverer(queue.webhooks, memory, threads=1).deliver_next)
    [(body, headers)] = sent
    own, others = (client.get("/api/v1/webhook-secret").json["secret"] for client in (ada, bob))
    assert standardwebhooks.Webhook(own).verify(body, headers)["id"] == created
    for wrong in (others, SECRET):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(wrong).verify(body, headers)
