"""Accessibility of the pages, checked by axe-core.

Its rules: https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md
"""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from .driving import QUICK, SLOW, cancel, expect_picture, expect_running, open_page, submit

SERIOUS = ("serious", "critical")


def serious_violations(page: Page) -> list[str]:
    """The serious and critical violations of the page in its present state."""
    violations = Axe().run(page).response["violations"]
    serious = [violation for violation in violations if violation["impact"] in SERIOUS]
    return [f"{page.url} {violation['id']}: {violation['nodes'][0]['html']}" for violation in serious]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(
    browser: Browser, live_url: str, faults: list[str], scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(base_url=live_url, color_scheme=scheme, reduced_motion="reduce")
    page = open_page(context, faults)
    page.locator("details.settings").evaluate("details => details.open = true")
    violations = serious_violations(page)
    submit(page, f"a {scheme} cloud", count="2", **QUICK)
    expect(page.locator("[data-state=done]")).to_have_count(2)
    violations += serious_violations(page)
    page.goto("/")
    submit(page, f"a {scheme} cloud", **QUICK)
    expect_picture(page, "from memory")
    page.reload()
    violations += serious_violations(page)
    page.locator(".frame a").click()
    page.get_by_role("button", name="Delete").click()
    violations += serious_violations(page)
    for path in ("/gallery", "/gallery?q=cloud&mine=1", "/queue", "/audit"):
        page.goto(path)
        violations += serious_violations(page)
    page.goto("/?steps=0")
    submit(page, "a cloud")
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    violations += serious_violations(page)
    page.goto("/")
    submit(page, f"a {scheme} rock", **SLOW)
    expect_running(page)
    violations += serious_violations(page)
    cancel(page)
    violations += serious_violations(page)
    context.close()
    assert (violations, faults) == ([], [])
