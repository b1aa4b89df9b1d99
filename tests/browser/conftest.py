"""A browser, and a page of the whole running product."""

import shutil
from collections.abc import Iterator

import pytest

from tests.real import IN_CI, missing

if not IN_CI:
    pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect, sync_playwright

from .driving import PATIENCE, open_page

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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        missing("a Chromium browser")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """Errors and warnings in the browser's console."""
    return []


@pytest.fixture
def page(browser: Browser, live_url: str, faults: list[str]) -> Iterator[Page]:
    """The start page. The test fails if the console has logged anything, such as a breach of the content policy."""
    context = browser.new_context(base_url=live_url)
    yield open_page(context, faults)
    context.close()
    assert faults == []
