"""The gallery and the queue page, in a real browser."""

import re

from playwright.sync_api import Browser, Page, Route, expect

from tests.real import wait_for

from .driving import QUICK, expect_picture, key_of, open_page, submit


def test_a_new_picture_appears_in_the_gallery_of_another_window(
    browser: Browser, page: Page, faults: list[str]
) -> None:
    window = browser.new_context(base_url=page.url)
    gallery = open_page(window, faults)
    gallery.goto("/gallery")
    submit(page, "a golden key", **QUICK)
    expect_picture(page, "painted")
    expect(gallery.locator(f".tile[data-key='{key_of(page)}']")).to_be_visible()
    expect(gallery.locator(".tile").first).to_contain_text("a golden key")
    window.close()


def test_without_event_streams_the_gallery_polls(browser: Browser, page: Page) -> None:
    window = browser.new_context(base_url=page.url)
    window.route("**/gallery/events*", lambda route: route.fulfill(status=503))
    gallery = window.new_page()
    gallery.goto("/gallery")
    submit(page, "a silver spoon", **QUICK)
    expect_picture(page, "painted")
    expect(gallery.locator(f".tile[data-key='{key_of(page)}']")).to_be_visible()
    window.close()


def test_the_gallery_can_be_searched_and_filtered(page: Page) -> None:
    submit(page, "a white swan", **QUICK)
    expect_picture(page, "painted")
    page.goto("/gallery")
    page.get_by_label("Search by meaning").fill("a swan that is white")
    page.keyboard.press("Enter")
    expect(page.locator(".tile").first).to_contain_text("a white swan")
    page.get_by_label("Mine only").check()
    expect(page).to_have_url(re.compile(r"/gallery\?q=a\+swan\+that\+is\+white&mine=1$"))
    expect(page.locator(".tile")).to_have_count(1)
    page.get_by_role("link", name="Show all").click()
    expect(page).to_have_url(re.compile(r"/gallery$"))


def test_a_filter_chosen_before_the_script_ran_is_applied(page: Page) -> None:
    delayed: list[Route] = []
    page.route("**/page.js*", lambda route: delayed.append(route))
    page.goto("/gallery", wait_until="commit")
    page.get_by_label("Mine only").check()
    wait_for(lambda: page.wait_for_timeout(20) or delayed)
    delayed[0].continue_()
    expect(page).to_have_url(re.compile(r"/gallery\?mine=1$"))
    page.unroute_all()
    page.reload()
    expect(page.get_by_label("Mine only")).to_be_checked()


def test_the_queue_page_shows_workers_and_draws_charts(page: Page) -> None:
    page.goto("/queue")
    expect(page.locator("[data-worker]")).to_have_count(1)
    expect(page.locator("[data-chart] canvas")).to_have_count(5)
    page.get_by_role("button", name="24 h").click()
    expect(page.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-chart=requests] [data-plot]")).to_have_attribute(
        "aria-label", re.compile(r"Requests\. from memory: .*, painted: 0 to \d+")
    )
