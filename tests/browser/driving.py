"""Steps and checks that the browser tests share."""

import re
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

SLOW = {"model": "slow", "steps": "150", "size": "256x256"}  # too slow to finish: tests cancel it once it runs
WATCHED = {"model": "slow", "steps": "40", "size": "256x256"}  # slow enough to show previews and steps
QUICK = {"steps": "4", "size": "64x64"}
PATIENCE = 30_000  # ms; generous, for a busy machine
PAINTING_PATIENCE = 150_000  # ms, for a whole painting on a busy machine
REFUSED = "status of 422"  # the browser logs every such response; tests expect them
LATE = re.compile(r"/preview\?")  # a preview may be requested just as its job ends, and is missing then


def open_page(context: BrowserContext, faults: list[str]) -> Page:
    """Open the start page; errors and warnings of the browser are added to `faults`."""
    page = context.new_page()
    page.on("console", lambda message: record_fault(message, faults))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/")
    return page


def record_fault(message: ConsoleMessage, faults: list[str]) -> None:
    late = LATE.search(message.location["url"])
    if message.type in ("error", "warning") and REFUSED not in message.text and not late:
        faults.append(message.text)


def submit(page: Page, prompt: str, **settings: str) -> None:
    """Fill in the form and submit it."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    if settings:
        page.locator("details.settings").evaluate("details => details.open = true")
    for name, value in settings.items():
        field: Any = page.locator(f"#{name}")
        field.select_option(value) if name in ("model", "size", "count") else field.fill(value)
    page.get_by_role("button", name="Create").click()


def expect_picture(page: Page, badge: str) -> None:
    """Expect a loaded image on the card, with this badge."""
    expect(page.locator("[data-job] [data-badge]")).to_have_text(badge, timeout=PAINTING_PATIENCE)
    expect(page.locator("[data-picture]")).not_to_have_js_property("naturalWidth", 0)


def expect_running(page: Page) -> None:
    """Expect the card to count steps."""
    expect(page.locator("[data-progress-text]")).to_have_text(re.compile(r"Step \d+ of 150"))


def cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "cancelled")


def key_of(page: Page) -> str:
    """The key of the picture on the card."""
    return str(page.locator("[data-job]").get_attribute("data-key"))
