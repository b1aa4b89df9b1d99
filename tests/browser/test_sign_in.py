"""Signing in with a key, and the pages of signed-in users, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

import web
from jobs.api_keys import ApiKeys
from jobs.models import Catalogue
from tests.real import serving
from web.config import WebConfig
from web.limits.rates import storage_uri

from .driving import QUICK, expect_picture, open_page, record_fault, submit
from .test_access import serious_violations


@pytest.fixture
def guarded_url(memory, queue, tiny_models, redis_url) -> Iterator[str]:
    """The address of a server that requires keys."""
    config = WebConfig(keys="required", limits=storage_uri(redis_url))
    app = web.create_app(memory, queue, Catalogue(tiny_models), config)
    with serving(app) as url:
        yield url


@pytest.fixture
def page(browser: Browser, guarded_url: str, faults: list[str]) -> Iterator[Page]:
    context = browser.new_context(base_url=guarded_url)
    yield open_page(context, faults)
    context.close()
    assert [fault for fault in faults if "401" not in fault] == []


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_a_user_signs_in_requests_a_picture_and_signs_out(page, queue, working):
    _, key = ApiKeys(queue.job_store.connection).add("ada")
    sign_in(page, "memo_wrong")
    expect(page.get_by_text("This key is not valid")).to_be_visible()
    assert serious_violations(page) == []
    sign_in(page, key)
    submit(page, "a red fox in the snow", **{**QUICK, "model": "stickers"})
    expect_picture(page, "painted")
    page.get_by_role("button", name="Another one").click()
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_visible()


def test_a_refused_action_shows_the_reason(browser, memory, queue, working, tiny_models, redis_url):
    config = WebConfig(keys="required", limits=storage_uri(redis_url), daily="1")
    with serving(web.create_app(memory, queue, Catalogue(tiny_models), config)) as url:
        page = browser.new_context(base_url=url).new_page()
        page.goto("/")
        sign_in(page, ApiKeys(queue.job_store.connection).add("ada")[1])
        submit(page, "a red fox in the snow", **{**QUICK, "model": "stickers"})
        expect_picture(page, "painted")
        page.get_by_role("button", name="Another one").click()
        trouble = page.locator(".trouble:not([data-trouble])")
        expect(trouble).to_have_text("the limit of 1 per 1 day is used up: try again later")
        page.context.close()


def test_two_users_see_only_their_own_pictures(page, browser, guarded_url, faults, queue, working):
    sign_in(page, ApiKeys(queue.job_store.connection).add("ada")[1])
    submit(page, "a red fox in the snow", **{**QUICK, "model": "stickers"})
    expect_picture(page, "painted")
    other_page = browser.new_context(base_url=guarded_url).new_page()
    other_page.on("console", lambda message: record_fault(message, faults))
    other_page.goto("/")
    sign_in(other_page, ApiKeys(queue.job_store.connection).add("bob")[1])
    other_page.goto("/gallery")
    expect(other_page.get_by_text("red fox")).to_have_count(0)
    page.goto("/gallery")
    expect(page.get_by_text("red fox").first).to_be_visible()
    other_page.context.close()
