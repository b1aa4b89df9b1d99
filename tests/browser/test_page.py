"""The pages in a real browser over the whole running product."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real import IN_CI, missing, wait_for

if not IN_CI:
    pytest.importorskip("playwright")
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SLOW = {"model": "slow", "steps": "150", "size": "256x256"}  # never waited for: cancelled when seen
SEEN = {"model": "slow", "steps": "40", "size": "256x256"}
QUICK = {"steps": "4", "size": "64x64"}
PATIENCE = 30_000  # ms, for a machine that has other things to do
LONG = 150_000  # ms, for a whole painting on it
REFUSED = "status of 422"  # the browser's own line about an answer that is meant to be one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        missing("a Chromium browser")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """What the browser complained about."""
    return []


@pytest.fixture
def page(browser: Browser, live_url: str, faults: list[str]) -> Iterator[Page]:
    """The start page; after the test nothing may stand in the console, a breach of the content policy included."""
    context = browser.new_context(base_url=live_url)
    yield opened(context, faults)
    context.close()
    assert faults == []


def opened(context: BrowserContext, faults: list[str]) -> Page:
    page = context.new_page()
    page.on("console", lambda message: note(message, faults))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/")
    return page


def note(message: ConsoleMessage, faults: list[str]) -> None:
    if message.type in ("error", "warning") and REFUSED not in message.text:
        faults.append(message.text)


def ask(page: Page, prompt: str, **settings: str) -> None:
    """Fill the form and send it."""
    page.get_by_label("What the picture shows").fill(prompt)
    if settings:
        page.locator("details.settings").evaluate("fold => fold.open = true")
    for name, value in settings.items():
        field: Any = page.locator(f"#{name}")
        field.select_option(value) if name in ("model", "size") else field.fill(value)
    page.get_by_role("button", name="Create").click()


def expect_picture(page: Page, badge: str) -> None:
    """The card shows a picture that really has pixels, and how it came."""
    expect(page.locator("[data-job] [data-badge]")).to_have_text(badge, timeout=LONG)
    expect(page.locator("[data-picture]")).not_to_have_js_property("naturalWidth", 0)


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


def expect_running(page: Page) -> None:
    """Steps are being counted."""
    expect(page.locator("[data-words]")).to_have_text(re.compile(r"Step \d+ of 150"))


def cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "cancelled")


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
    expect_running(page)
    step = page.locator("[data-words]").inner_text()
    expect(page.locator("[data-words]")).not_to_have_text(step)
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
    page.wait_for_url("**/#gallery")
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
    page.goto("/")
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
