"""A server that is bound where others reach it, and people with keys."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

import web
from jobs.api_keys import ApiKeys
from jobs.models import Catalogue
from jobs.queue import Queue
from memo import Memory
from web.config import WebConfig
from web.limits import storage_uri

Serve = Callable[..., Flask]
Enter = Callable[..., FlaskClient]


@pytest.fixture
def keys(queue: Queue) -> ApiKeys:
    return ApiKeys(queue.job_store.connection)


@pytest.fixture
def serve(memory: Memory, queue: Queue, tiny_models: Path, redis_url: str) -> Serve:
    """A server that wants keys, with other settings as given."""

    def make(**settings: str) -> Flask:
        config = WebConfig(**{"keys": "required", "limits": storage_uri(redis_url), **settings})
        return web.create_app(memory, queue, Catalogue(tiny_models), config, TESTING=True)

    return make


@pytest.fixture
def guarded(serve: Serve) -> Flask:
    return serve()


@pytest.fixture
def enter(keys: ApiKeys) -> Enter:
    """A client of a server that sends a new key of this name with every request."""

    def client(app: Flask, name: str, **how: object) -> FlaskClient:
        _, key = keys.add(name, **how)  # type: ignore[arg-type]
        found = app.test_client()
        found.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        return found

    return client
