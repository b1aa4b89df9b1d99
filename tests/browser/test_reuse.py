"""The buttons of a job: variations, wrong pictures, retries, links and downloads."""

import re

from playwright.sync_api import Page, expect

from .driving import QUICK, SLOW, cancel, expect_picture, expect_running, key_of, submit


def request_variation(page: Page) -> None:
    """Click "Another one" and wait for the picture."""
    job = str(page.locator("[data-job]").get_attribute("data-job"))
    page.get_by_role("button", name="Another one").click()
    expect(page.locator(f"[data-job]:not([data-job='{job}'])")).to_have_attribute("data-state", "done")


def test_ten_variations_are_ten_different_pictures(page: Page) -> None:
    submit(page, "a yellow bird", **QUICK)
    expect_picture(page, "painted")
    keys = {key_of(page)}
    for _ in range(10):
        request_variation(page)
        keys.add(key_of(page))
    assert len(keys) == 11
    expect(page).to_have_url(re.compile(r"/jobs/\w+$"))


def test_a_variation_may_be_a_picture_that_only_others_have_received(page: Page) -> None:
    body = {"prompt": "a brown bear", "steps": 4, "width": 64, "height": 64, "count": 2, "user": "someone"}
    page.request.post("/api/v1/jobs", data=body)
    submit(page, "a brown bear", **QUICK)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done")
    first = key_of(page)
    request_variation(page)
    expect(page.locator("[data-badge]")).to_have_text("from memory")
    assert key_of(page) != first


def test_a_picture_reported_wrong_is_painted_again_and_never_reused(page: Page) -> None:
    for badge in ("painted", "from memory"):
        page.goto("/")
        submit(page, "a grey mouse", **QUICK)
        expect_picture(page, badge)
    wrong = key_of(page)
    page.get_by_role("button", name="Wrong picture").click()
    expect_picture(page, "painted")
    assert key_of(page) != wrong
    body = {"prompt": "a grey mouse", "steps": 4, "width": 64, "height": 64, "count": 2, "user": "someone"}
    first, second = page.request.post("/api/v1/jobs", data=body).json()["jobs"]
    assert (first["picture"]["key"], first["origin"]) == (key_of(page), "memory")
    assert second["origin"] == "painted"  # otherwise it would be the wrong picture, which memory also holds


def test_a_cancelled_job_is_retried_with_another_seed(page: Page) -> None:
    submit(page, "a tall tower", **SLOW)
    expect_running(page)
    cancel(page)
    page.get_by_role("button", name="Try again").click()
    expect_running(page)
    cancel(page)
    jobs = page.request.get("/api/v1/jobs?limit=2").json()["jobs"]
    assert jobs[0]["recipe"]["prompt"] == jobs[1]["recipe"]["prompt"] == "a tall tower"
    assert jobs[0]["recipe"]["seed"] != jobs[1]["recipe"]["seed"]


def test_several_pictures_appear_at_once_and_survive_a_reload(page: Page) -> None:
    submit(page, "a pink rose", count="4", **QUICK)
    done = page.locator("[data-job][data-state=done]")
    expect(done).to_have_count(4)
    keys = {card.get_attribute("data-key") for card in done.all()}
    assert len(keys) == 4
    expect(page).to_have_url(re.compile(r"/jobs\?id=\w+(&id=\w+){3}$"))
    page.reload()
    expect(done).to_have_count(4)
    assert {card.get_attribute("data-key") for card in done.all()} == keys


def test_nothing_typed_is_lost_when_the_server_cannot_be_reached(page: Page, faults: list[str]) -> None:
    page.route("**/api/v1/jobs", lambda route: route.abort())
    submit(page, "a long story", seed="5")
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. Is it running?")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a long story")
    expect(page.get_by_label("Seed")).to_have_value("5")
    assert all("ERR_FAILED" in fault for fault in faults)
    faults.clear()


def test_the_link_to_a_job_can_be_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    submit(page, "a red door", **QUICK)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    job_url = page.url
    page.goto("/gallery")
    page.locator("#q").press("Control+V")
    expect(page.locator("#q")).to_have_value(job_url)


def test_a_picture_can_be_downloaded_as_webp(page: Page) -> None:
    submit(page, "a red door", **QUICK)
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as WebP").click()
    assert download.value.suggested_filename.endswith(".webp")
    assert download.value.path().read_bytes()[8:12] == b"WEBP"
