"""Large bodies of JSON are refused in a moment, whatever they hold."""

import base64
import io
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from memo.errors import shorten

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
MANY = b"[" + b"[]," * 7_000_000 + b"[]]"  # 21 MB that Python parses to 7,000,001 lists


def picture(*, noise: int = 0) -> str:
    """A PNG in base64, larger than an ordinary body may be with `noise` pixels of noise a side."""
    file = io.BytesIO()
    side = noise or 64
    Image.effect_noise((side, side), 100).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("value", [[[]] * 10**7, dict.fromkeys(range(10**6)), "x" * 10**8, " \n" * 10**7])
def test_a_large_value_is_shortened_in_a_moment(value: object) -> None:
    started = time.thread_time()
    text = shorten(value)
    assert len(text) <= 80 and text.endswith(("…", "...]"))
    assert time.thread_time() - started < 0.1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, 2.5, None], "a": {"ü": True}}, r"{'b': [1, 2.5, None], 'a': {'\xfc': True}}"),
        ("Grüße", "'Grüße'"),
        ("a\u200b", r"'a\u200b'"),
        (["\ud800"], r"['\ud800']"),
        ([1] * 30, "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...]"),
    ],
)
def test_a_small_value_is_written_as_python_writes_it(value: object, text: str) -> None:
    assert shorten(value) == text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/png-info", b'{"image": %b}'),
        ("/sdapi/v1/img2img", b'{"init_images": ["x"], "override_settings": {"sd_model_checkpoint": %b}}'),
    ],
    ids=["the picture", "a setting beside it"],
)
def test_one_wrong_field_of_21_mb_delays_nobody(client: FlaskClient, path: str, body: bytes) -> None:
    started = time.thread_time()
    answer = client.post(path, data=body % MANY, content_type="application/json")
    assert answer.status_code == 413 and "32,768 values" in answer.json["detail"]
    assert time.thread_time() - started < 0.5


def test_a_text_of_20_mb_where_a_number_belongs_delays_nobody(client: FlaskClient) -> None:
    body = {**FOX, "init_images": [picture()], "mask": " " * 20_000_000 + "."}
    started = time.thread_time()
    answer = client.post("/sdapi/v1/img2img", json=body)
    assert answer.status_code == 422 and answer.json["field"] == "mask"
    assert time.thread_time() - started < 1.0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/img2img", {**FOX, "init_images": [picture(noise=300)]}),
        ("/api/v2/generate/async", {"prompt": "a", "source_image": picture(noise=300)}),
    ],
)
def test_a_large_body_holds_one_picture_and_its_settings(
    client: FlaskClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, json={**body, "styles": ["x" * 100_000]})
    assert answer.status_code == 413 and "beside its picture" in answer.text
