"""The pages in a real browser over the whole running product."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.real import wait_for

from .driving import LONG, QUICK, SEEN, SLOW, ask, cancel, expect_picture, expect_running


def test_a_new_prompt_is_painted_while_one_looks_on(page: Page) -> None:
    ask(page, "a lighthouse at night", **SEEN)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "running")
    expect(page.locator("[data-preview]")).to_be_visible()
    expect(page.locator("[data-preview]")).not_to_have_js_property("naturalWidth", 0)
    expect(page.locator("[data-words]")).to_have_text(re.compile(r"Step \d+ of 40"))
    expect_picture(page, "painted")
    expect(page.locator("[data-tiles] .tile").first).to_contain_text("a lighthouse at night")
    expect(page).to_have_url(re.compile(r"/jobs/\w+$"))


def test_the_same_words_come_from_memory_and_others_do_not(page: Page) -> None:
    ask(page, "a green apple", **QUICK)
    expect_picture(page, "painted")
    page.goto("/")
    ask(page, "a green apple", **QUICK)
    expect_picture(page, "from memory")
    expect(page.locator("[data-why]")).to_contain_text("the same words")
    expect(page.locator("[data-remembered]")).to_have_text("a green apple")
    expect(page.locator("[data-took]")).to_have_text(re.compile(r"in \d+ ms"))
    expect(page.locator(".saved")).to_contain_text("of painting")
    ask(page, "a purple apple", **QUICK)
    expect_picture(page, "painted")


def test_a_bad_field_is_marked_and_nothing_typed_is_lost(page: Page) -> None:
    page.goto("/?width=250&height=250")
    ask(page, "a lighthouse in the fog", seed="12")
    size = page.get_by_label("Size in pixels")
    expect(size).to_have_attribute("aria-invalid", "true")
    expect(size).to_have_accessible_description("It must be a multiple of 8, for example 248.")
    expect(size).to_be_focused()
    expect(page.get_by_label("What the picture shows")).to_have_value("a lighthouse in the fog")
    expect(page.get_by_label("Seed")).to_have_value("12")
    size.select_option("64x64")
    page.get_by_role("button", name="Create").click()
    expect_picture(page, "painted")
    expect(size).not_to_have_attribute("aria-invalid", "true")


def test_an_empty_prompt_is_asked_for(page: Page) -> None:
    ask(page, " ")
    expect(page.locator("#prompt-fault")).to_be_visible()
    expect(page.get_by_label("What the picture shows")).to_be_focused()


def test_a_running_job_is_cancelled(page: Page) -> None:
    ask(page, "a bridge in the morning", **SLOW)
    expect_running(page)
    cancel(page)
    expect(page.locator("[data-job]")).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_reload_in_mid_run_finds_the_job_again(page: Page) -> None:
    ask(page, "a windmill in the wind", **SLOW)
    expect_running(page)
    page.reload()
    words = page.locator("[data-words]")
    expect(words).to_have_text(re.compile(r"Step \d+ of 150"))
    expect(words).not_to_have_text(words.inner_text())
    cancel(page)


def test_without_event_streams_the_page_polls(page: Page, faults: list[str]) -> None:
    page.route("**/events", lambda route: route.fulfill(status=503))
    ask(page, "a kite over the sea", **SLOW)
    expect_running(page)
    cancel(page)
    assert all("503" in fault for fault in faults)
    faults.clear()


def test_the_keyboard_is_enough(page: Page) -> None:
    expect(page.get_by_label("What the picture shows")).to_be_focused()
    page.keyboard.type("a small boat")
    page.keyboard.press("Control+Enter")
    expect_picture(page, "painted")


def test_a_picture_is_deleted_after_asking(page: Page) -> None:
    ask(page, "a paper crane", **QUICK)
    expect_picture(page, "painted")
    page.locator(".frame a").click()
    expect(page.get_by_role("heading", name="a paper crane")).to_be_visible()
    where = page.url
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/gallery")
    expect(page.locator("[data-tiles]")).not_to_contain_text("a paper crane")
    assert page.request.get(where).status == 404


def test_the_settings_of_a_picture_fill_the_form(page: Page) -> None:
    ask(page, "a wooden chair", seed="77", **QUICK)
    expect_picture(page, "painted")
    page.get_by_role("link", name="Use these settings").click()
    expect(page.get_by_label("What the picture shows")).to_have_value("a wooden chair")
    expect(page.get_by_label("Seed")).to_have_value("77")
    expect(page.get_by_label("Size in pixels")).to_have_value("64x64")
    page.get_by_role("button", name="Create").click()
    expect_picture(page, "from memory")


def test_going_back_shows_the_page_of_that_address(page: Page) -> None:
    ask(page, "a red door", **QUICK)
    expect_picture(page, "painted")
    page.go_back()
    expect(page.get_by_label("What the picture shows")).to_be_visible()
    expect(page.locator("[data-job]")).to_have_count(0)


def test_scrolling_brings_older_pictures(page: Page) -> None:
    for seed in range(26):
        body = {"prompt": "a grey stone", "seed": seed, "steps": 1, "width": 64, "height": 64}
        assert page.request.post("/api/v1/jobs", data=body).ok
    wait_for(lambda: len(page.request.get("/api/v1/pictures?limit=100").json()["pictures"]) >= 26, 120)
    page.goto("/gallery")
    page.locator(".bottom").scroll_into_view_if_needed()
    expect(page.locator(".tile").nth(24)).to_be_attached()


@pytest.mark.parametrize("width", [320, 375, 1440, 3840])
def test_no_page_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    ask(page, "m" * 300, **QUICK)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done", timeout=LONG)
    for selector in ("details.settings", "details.small"):
        page.locator(selector).evaluate("fold => fold.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for path in ("/gallery", "/queue"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_a_prompt_still_becomes_a_picture(browser: Browser, live_url: str) -> None:
    context = browser.new_context(base_url=live_url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("What the picture shows").fill("a stone bridge")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("[data-badge]")).to_have_text("painted", timeout=LONG)
    expect(page.locator("[data-picture]")).to_be_visible()
    assert page.request.get(str(page.locator("[data-picture]").get_attribute("src"))).ok
    context.close()
