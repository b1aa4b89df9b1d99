"""Under a path of another site's address: a proxy strips the prefix and reports it, and every address carries it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

import web
from jobs.models import Catalogue
from jobs.queue import Queue
from memo import Memory, Picture, Recipe
from tests.real import ROOT
from web.config import WebConfig

PREFIX = "/memo"
FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
ADDRESS = re.compile(r'\b(?:href|src|action|content|data-[a-z-]+)="(/[^"]*)"')
PROXIED = {"HTTP_X_FORWARDED_PREFIX": PREFIX, "HTTP_X_FORWARDED_FOR": "10.0.0.9", "HTTP_ACCEPT": "text/html"}


Serve = Callable[..., Flask]


@pytest.fixture
def serve(memory: Memory, queue: Queue, tiny_models: Path) -> Serve:
    """Create the application with these settings."""

    def create(**settings: str) -> Flask:
        return web.create_app(memory, queue, Catalogue(tiny_models), WebConfig(**settings), TESTING=True)

    return create


@pytest.fixture
def proxied(serve: Serve) -> FlaskClient:
    """A client behind a proxy that serves this application under a prefix."""
    client = serve(keys="off", proxies="1").test_client()
    client.environ_base.update(PROXIED)
    return client


def test_every_address_on_every_page_carries_the_prefix(
    proxied: FlaskClient, remember: Callable[..., Picture], recipe: Recipe
) -> None:
    key = remember(recipe).key
    job = proxied.post("/api/v1/jobs", json=FOX).json["id"]
    pages = ("/", "/gallery", "/queue", "/audit", f"/jobs/{job}", f"/jobs/{job}/card", f"/pictures/{key}")
    for path in (*pages, f"/?picture={key}", "/api/docs", f"/jobs?id={job}"):
        answer = proxied.get(path)
        addresses = ADDRESS.findall(answer.text)
        assert answer.status_code == 200 and addresses, path
        assert [address for address in addresses if not address.startswith(f"{PREFIX}/")] == [], path


def test_links_in_json_and_event_addresses_carry_the_prefix(proxied: FlaskClient) -> None:
    answer = proxied.post("/api/v1/jobs", json=FOX)
    links = [answer.headers["Location"], *answer.json["links"].values()]
    assert len(links) == 3 and all(link.startswith(f"{PREFIX}/api/v1/jobs/") for link in links)
    assert proxied.get("/api/v1/openapi.json").json["servers"] == [{"url": PREFIX}]


def test_redirects_carry_the_prefix(proxied: FlaskClient, serve: Serve) -> None:
    assert proxied.post("/", data=FOX).location.startswith(f"{PREFIX}/jobs/")
    assert proxied.get("/sign-in?next=/memo/gallery").location == f"{PREFIX}/gallery"
    guarded = serve(keys="required", proxies="1").test_client()
    answer = guarded.get("/gallery?q=fox", environ_base=PROXIED)
    assert answer.location == "/memo/sign-in?next=/memo/gallery?q%3Dfox"


def test_a_prefix_that_no_trusted_proxy_reports_is_ignored(serve: Serve) -> None:
    client = serve(keys="off").test_client()
    assert 'href="/gallery"' in client.get("/", environ_base=PROXIED).text


def test_a_link_for_others_names_the_port_and_the_scheme_that_the_proxy_reports(proxied: FlaskClient) -> None:
    headers = {"X-Forwarded-Port": "8443", "X-Forwarded-Proto": "https", "Host": "art.example.org"}
    job = proxied.post("/api/v1/jobs", json=FOX).json["id"]
    page = proxied.get(f"/jobs/{job}", headers=headers).text
    assert f'data-copy="https://art.example.org:8443{PREFIX}/jobs/{job}"' in page


def test_no_script_holds_an_address_of_its_own() -> None:
    """Scripts take addresses from the page, which knows the prefix."""
    for file in (ROOT / "web" / "static").glob("*.js"):
        held = re.findall(r"""["'`](/(?:api|jobs|gallery|queue|pictures|v1|static)\b[^"'`]*)""", file.read_text())
        assert held == [], file.name
