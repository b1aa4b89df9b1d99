"""The form and the job page, in a real browser."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.real import wait_for

from .driving import PAINTING_PATIENCE, QUICK, SLOW, WATCHED, cancel, expect_picture, expect_running, submit


def test_a_new_prompt_is_painted_with_previews_and_steps(page: Page) -> None:
    submit(page, "a lighthouse at night", **WATCHED)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "running")
    expect(page.locator("[data-preview]")).to_be_visible()
    expect(page.locator("[data-preview]")).not_to_have_js_property("naturalWidth", 0)
    expect(page.locator("[data-progress-text]")).to_have_text(re.compile(r"Step \d+ of 40"))
    expect_picture(page, "painted")
    expect(page.locator("[data-tiles] .tile").first).to_contain_text("a lighthouse at night")
    expect(page).to_have_url(re.compile(r"/jobs/\w+$"))


def test_the_same_prompt_is_answered_from_memory_and_a_new_one_is_painted(page: Page) -> None:
    submit(page, "a green apple", **QUICK)
    expect_picture(page, "painted")
    page.goto("/")
    submit(page, "a green apple", **QUICK)
    expect_picture(page, "from memory")
    expect(page.locator("[data-why]")).to_contain_text("the same words")
    expect(page.locator("[data-remembered]")).to_have_text("a green apple")
    expect(page.locator("[data-took]")).to_have_text(re.compile(r"in \d+ ms"))
    expect(page.locator(".saved")).to_contain_text("of painting")
    submit(page, "a purple apple", **QUICK)
    expect_picture(page, "painted")


def test_an_invalid_field_is_marked_and_nothing_typed_is_lost(page: Page) -> None:
    page.goto("/?width=250&height=250")
    submit(page, "a lighthouse in the fog", seed="12")
    size = page.get_by_label("Size in pixels")
    expect(size).to_have_attribute("aria-invalid", "true")
    expect(size).to_have_accessible_description("It must be a multiple of 8, for example 248.")
    expect(size).to_be_focused()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a lighthouse in the fog")
    expect(page.get_by_label("Seed")).to_have_value("12")
    size.select_option("64x64")
    page.get_by_role("button", name="Create").click()
    expect_picture(page, "painted")
    expect(size).not_to_have_attribute("aria-invalid", "true")


def test_an_empty_prompt_is_reported_at_its_field(page: Page) -> None:
    submit(page, " ")
    expect(page.locator("#prompt-fault")).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()


def test_a_running_job_can_be_cancelled(page: Page) -> None:
    submit(page, "a bridge in the morning", **SLOW)
    expect_running(page)
    cancel(page)
    expect(page.locator("[data-job]")).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_the_steps_of_a_job_are_still_counted_after_a_reload(page: Page) -> None:
    submit(page, "a windmill in the wind", **SLOW)
    expect_running(page)
    page.reload()
    progress = page.locator("[data-progress-text]")
    expect(progress).to_have_text(re.compile(r"Step \d+ of 150"))
    expect(progress).not_to_have_text(progress.inner_text())
    cancel(page)


def test_without_event_streams_the_page_polls(page: Page, faults: list[str]) -> None:
    page.route("**/events", lambda route: route.fulfill(status=503))
    submit(page, "a kite over the sea", **SLOW)
    expect_running(page)
    cancel(page)
    assert all("503" in fault for fault in faults)
    faults.clear()


def test_the_form_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    page.keyboard.type("a small boat")
    page.keyboard.press("Control+Enter")
    expect_picture(page, "painted")


def test_a_picture_is_deleted_after_confirmation(page: Page) -> None:
    submit(page, "a paper crane", **QUICK)
    expect_picture(page, "painted")
    page.locator(".frame a").click()
    expect(page.get_by_role("heading", name="a paper crane")).to_be_visible()
    picture_url = page.url
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/gallery")
    expect(page.locator("[data-tiles]")).not_to_contain_text("a paper crane")
    assert page.request.get(picture_url).status == 404


def test_the_form_can_be_filled_with_a_pictures_settings(page: Page) -> None:
    submit(page, "a wooden chair", seed="77", **QUICK)
    expect_picture(page, "painted")
    page.get_by_role("link", name="Use these settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a wooden chair")
    expect(page.get_by_label("Seed")).to_have_value("77")
    expect(page.get_by_label("Size in pixels")).to_have_value("64x64")
    page.get_by_role("button", name="Create").click()
    expect_picture(page, "from memory")


def test_going_back_from_a_job_shows_the_form(page: Page) -> None:
    submit(page, "a red door", **QUICK)
    expect_picture(page, "painted")
    page.go_back()
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    expect(page.locator("[data-job]")).to_have_count(0)


def test_scrolling_loads_older_pictures(page: Page) -> None:
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
    submit(page, "m" * 300, **QUICK)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done", timeout=PAINTING_PATIENCE)
    for selector in ("details.settings", "details.small"):
        page.locator(selector).evaluate("details => details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for path in ("/gallery", "/queue"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_a_prompt_still_becomes_a_picture(browser: Browser, live_url: str) -> None:
    context = browser.new_context(base_url=live_url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill("a stone bridge")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("[data-badge]")).to_have_text("painted", timeout=PAINTING_PATIENCE)
    expect(page.locator("[data-picture]")).to_be_visible()
    assert page.request.get(str(page.locator("[data-picture]").get_attribute("src"))).ok
    context.close()
