"""A server that other machines can reach, and users with API keys."""

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
from web.limits.rates import storage_uri

Serve = Callable[..., Flask]
ClientFor = Callable[..., FlaskClient]


@pytest.fixture
def keys(queue: Queue) -> ApiKeys:
    return ApiKeys(queue.job_store.connection)


@pytest.fixture
def serve(memory: Memory, queue: Queue, tiny_models: Path, redis_url: str) -> Serve:
    """Create a server that requires keys, with these settings."""

    def create(**settings: str) -> Flask:
        config = WebConfig(**{"keys": "required", "limits": storage_uri(redis_url), **settings})
        return web.create_app(memory, queue, Catalogue(tiny_models), config, TESTING=True)

    return create


@pytest.fixture
def guarded(serve: Serve) -> Flask:
    return serve()


@pytest.fixture
def client_for(keys: ApiKeys) -> ClientFor:
    """Create a client that sends a new key of this name with every request."""

    def create(app: Flask, name: str, **options: object) -> FlaskClient:
        _, key = keys.add(name, **options)  # type: ignore[arg-type]
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        return client

    return create
