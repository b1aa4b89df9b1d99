"""What axe-core finds wrong with the pages, https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md"""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from .driving import QUICK, SLOW, ask, cancel, expect_picture, expect_running, opened

GRAVE = ("serious", "critical")


def grave_faults(page: Page) -> list[str]:
    """Those of the page as it stands."""
    found = Axe().run(page).response["violations"]
    return [f"{page.url} {one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in GRAVE]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(
    browser: Browser, live_url: str, faults: list[str], scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(base_url=live_url, color_scheme=scheme, reduced_motion="reduce")
    page = opened(context, faults)
    page.locator("details.settings").evaluate("fold => fold.open = true")
    grave = grave_faults(page)
    ask(page, f"a {scheme} cloud", count="2", **QUICK)
    expect(page.locator("[data-state=done]")).to_have_count(2)
    grave += grave_faults(page)
    page.goto("/")
    ask(page, f"a {scheme} cloud", **QUICK)
    expect_picture(page, "from memory")
    page.reload()
    grave += grave_faults(page)
    page.locator(".frame a").click()
    page.get_by_role("button", name="Delete").click()
    grave += grave_faults(page)
    for path in ("/gallery", "/gallery?q=cloud&mine=1", "/queue", "/audit"):
        page.goto(path)
        grave += grave_faults(page)
    page.goto("/?steps=0")
    ask(page, "a cloud")
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    grave += grave_faults(page)
    page.goto("/")
    ask(page, f"a {scheme} rock", **SLOW)
    expect_running(page)
    grave += grave_faults(page)
    cancel(page)
    grave += grave_faults(page)
    context.close()
    assert (grave, faults) == ([], [])
