"""Paintings from a similar picture, chosen in the form of a real browser and undone on the job's card."""

from collections.abc import Iterator

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from jobs.queue import Queue
from memo import Memory
from tests.real import SharingJudge, serving
from worker.paint import PaintingRunner

from .driving import expect_picture, key_of, open_page, submit

ENOUGH_STEPS = {"steps": "8", "size": "64x64"}


@pytest.fixture
def page(
    app: Flask,
    browser: Browser,
    memory: Memory,
    queue: Queue,
    working: PaintingRunner,
    faults: list[str],
) -> Iterator[Page]:
    """The start page of a server whose judge finds all prompts similar."""
    memory.judge = SharingJudge()
    with serving(app) as url:
        context = browser.new_context(base_url=url)
        yield open_page(context, faults)
        queue.events.stop()
        context.close()
    assert faults == []


def test_a_picture_is_painted_from_a_similar_one_and_then_from_scratch(page: Page) -> None:
    submit(page, "a red fox in the snow", **ENOUGH_STEPS)
    expect_picture(page, "painted")
    source = key_of(page)
    page.get_by_label("Keep the composition of a similar picture: faster").check()
    submit(page, "a blue fox in the snow")
    expect_picture(page, "from a similar picture")
    card = page.locator("[data-job]")
    expect(card.locator("[data-source]")).to_contain_text("a red fox in the snow. 3 of 8 steps saved.")
    expect(card.locator("[data-source] img")).not_to_have_js_property("naturalWidth", 0)
    expect(card.locator("[data-source] a").first).to_have_attribute("href", f"/pictures/{source}")
    expect(card.locator("[data-why]")).to_contain_text("the prompts share 2.5 of 3")
    near = key_of(page)
    page.get_by_role("button", name="Paint it from scratch instead").click()
    expect_picture(page, "painted")
    assert key_of(page) not in (source, near)


def test_a_model_without_near_starts_does_not_offer_them(page: Page) -> None:
    page.evaluate("""() => {
        const slow = document.querySelector("#model option[value=slow]");
        slow.dataset.model = JSON.stringify({ ...JSON.parse(slow.dataset.model), near_starts: false });
    }""")
    page.locator("details.settings").evaluate("details => details.open = true")
    choice = page.get_by_label("Keep the composition of a similar picture: faster")
    choice.check()
    page.locator("#model").select_option("slow")
    expect(choice).to_be_hidden()
    expect(page.get_by_label("Reuse if it fits")).to_be_checked()
    page.locator("#model").select_option("stickers")
    expect(choice).to_be_visible()
