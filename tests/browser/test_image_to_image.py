"""Image to image, started from the form in a real browser."""

import io

from PIL import Image
from playwright.sync_api import Page, expect

from .driving import QUICK, expect_picture, submit


def test_a_chosen_picture_is_uploaded_as_the_init_image(page: Page) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), "#c60").save(file, "PNG")
    page.locator("details.settings").evaluate("details => details.open = true")
    image = page.get_by_label("Start from a picture")
    image.set_input_files({"name": "fox.png", "mimeType": "image/png", "buffer": file.getvalue()})
    submit(page, "an orange kite", strength="0.5", **QUICK)
    expect_picture(page, "painted")
    job = page.request.get(f"/api/v1/jobs/{page.locator('[data-job]').get_attribute('data-job')}").json()
    assert len(job["recipe"]["init_image"]) == 32 and job["recipe"]["strength"] == 0.5


def test_a_file_that_is_not_a_picture_is_reported_at_its_field(page: Page) -> None:
    page.locator("details.settings").evaluate("details => details.open = true")
    image = page.get_by_label("Start from a picture")
    image.set_input_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    submit(page, "an orange kite", **QUICK)
    expect(page.locator("#image-fault")).to_contain_text("send a PNG, JPEG or WebP picture", ignore_case=True)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("an orange kite")


def test_a_model_without_image_to_image_drops_the_init_image_and_its_errors_are_shown(page: Page) -> None:
    page.evaluate("""() => {
        const slow = document.querySelector("#model option[value=slow]");
        slow.dataset.model = JSON.stringify({ ...JSON.parse(slow.dataset.model), image_to_image: false });
    }""")
    page.locator("details.settings").evaluate("details => details.open = true")
    image = page.locator("#image")
    image.set_input_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator("#model").select_option("slow")
    expect(image).to_be_hidden()
    assert image.evaluate("input => input.files.length") == 0
    problem = {"field": "init_image", "fix": "choose another model", "detail": "init_image: cannot be used"}
    page.route("**/api/v1/jobs", lambda route: route.fulfill(status=422, json=problem))
    submit(page, "an orange kite")
    expect(page.get_by_role("alert")).to_have_text("init_image: cannot be used")
