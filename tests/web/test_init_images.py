"""Image to image by the native API: uploads, and pictures painted from them."""

import io
import random
import re
import struct

import pytest
from PIL import Image

from tests.real import finished

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}


def picture(colour="#c60", kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(file, kind)
    return file.getvalue()


def upload(client, **options):
    answer = client.post("/api/v1/init-images", **options)
    assert answer.status_code == 201, answer.json
    return answer.json["init_image"]


def test_the_painter_receives_the_uploaded_picture(client, queue, working, painter):
    init_image = upload(client, data=picture(), content_type="image/png")
    job = client.post("/api/v1/jobs", json={**FOX, "init_image": init_image, "strength": 0.4}).json
    assert finished(queue, job["id"]).state == "done"
    assert painter.init_images[0].size == (30, 20) and painter.init_images[0].getpixel((3, 3)) == (0xCC, 0x66, 0)
    assert job["recipe"]["init_image"] == init_image and job["recipe"]["strength"] == 0.4


def test_the_same_picture_uploaded_as_body_or_form_gets_the_same_name(client):
    form = {"image": (io.BytesIO(picture()), "photo.png")}
    assert upload(client, data=form) == upload(client, data=picture(), content_type="image/png")


def test_a_painted_picture_can_be_an_initial_image_by_its_key(client, queue, working, painter):
    first = finished(queue, client.post("/api/v1/jobs", json=FOX).json["id"]).picture
    job = client.post("/api/v1/jobs", json={**FOX, "prompt": "a blue fox", "init_image": first.key}).json
    assert finished(queue, job["id"]).state == "done"
    assert painter.init_images[-1].size == (64, 64)


def test_using_an_upload_restarts_the_week_for_which_it_is_kept(client, job_store, working, monkeypatch):
    def expired_uploads():
        with monkeypatch.context() as patch:
            patch.setattr("jobs.store.backlog.KEPT_SECONDS", -0.001)
            return job_store.backlog.old_init_images()

    init_image = upload(client, data=picture(), content_type="image/png")
    [(name, scope)] = expired_uploads()
    assert name == init_image
    job_store.backlog.drop_init_image(init_image, scope)
    assert client.post("/api/v1/jobs", json={**FOX, "init_image": init_image}).status_code == 202
    assert expired_uploads() == [(init_image, scope)]


def test_a_photograph_with_a_malformed_tag_can_be_uploaded(client):
    turned, width = struct.pack("<HHII", 0x0112, 3, 1, 6), struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0")
    file = io.BytesIO()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + turned + width + b"\0\0\0\0"
    Image.new("RGB", (30, 20)).save(file, "JPEG", exif=exif)
    upload(client, data=file.getvalue(), content_type="image/jpeg")


def test_an_upload_of_another_format_is_named(client):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    answer = client.post("/api/v1/init-images", data=heic, content_type="image/heic")
    assert answer.status_code == 422
    assert answer.json["fix"] == "it is a HEIC picture: save it as PNG, JPEG or WebP"


def test_an_unknown_init_image_is_refused(client):
    answer = client.post("/api/v1/jobs", json={**FOX, "init_image": "0" * 32})
    assert (answer.status_code, answer.json["field"]) == (422, "init_image")
    assert "upload the image first" in answer.json["fix"]


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"no picture", 422), (b"\0" * (16 * 2**20 + 1), 413)],
    ids=["none", "text", "huge"],
)
def test_an_upload_that_is_not_a_picture_is_refused(client, data, status):
    assert client.post("/api/v1/init-images", data=data, content_type="image/png").status_code == status


def form(image=None, **fields):
    filled = {"prompt": "a red fox", "size": "64x64", **fields}
    return filled | ({"image": (io.BytesIO(image), "photo.png")} if image else {})


def test_the_form_accepts_a_picture_without_javascript(client, queue, working, painter):
    answer = client.post("/", data=form(picture(), strength="0,4"))
    job = finished(queue, answer.headers["Location"].rpartition("/")[2])
    assert (job.recipe.strength, painter.init_images[0].size) == (0.4, (30, 20))


def test_the_form_accepts_a_large_picture(client):
    noise = Image.frombytes("RGB", (300, 300), random.Random(1).randbytes(270_000))
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert client.post("/", data=form(file.getvalue())).status_code == 303


def test_a_mistake_in_another_field_keeps_the_picture(client, tiny_models):
    answer = client.post("/", data=form(picture(), steps="0"))
    [init_image] = re.findall(r'name="init_image" value="([0-9a-f]{32})" checked', answer.text)
    assert answer.status_code == 422
    again = client.post("/", data=form(steps="2", init_image=init_image))
    assert again.status_code == 303


def test_a_file_that_is_not_a_picture_is_reported_at_its_field(client):
    answer = client.post("/", data=form(b"no picture"))
    assert answer.status_code == 422 and "send a PNG, JPEG or WebP picture" in answer.text
