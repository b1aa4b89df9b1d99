"""Reading uploads takes little memory, few are read at once, and each is charged before it is read."""

import base64
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from jobs.api_keys import ApiKeys
from memo import BadRecipe, Picture, Recipe, Unavailable
from memo.init_image import LARGEST_KEPT, read_init_image
from tests.real import ROOT, wait_for
from web.limits.gates import Gate
from web.uploads import NICENESS, PART, decode_base64

Serve, ClientFor = Callable[..., Flask], Callable[..., FlaskClient]

MEASURE = """
import re, sys
from memo import BadRecipe
from memo.init_image import read_init_image

def figure(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

read_init_image(open(sys.argv[1], "rb").read())
data = open(sys.argv[2], "rb").read()
open("/proc/self/clear_refs", "w").write("5")
before = figure("VmRSS")
try:
    read_init_image(data)
except BadRecipe as error:
    print(error, file=sys.stderr)
print(figure("VmHWM") - before)
"""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def megabytes(folder: Path, data: bytes) -> float:
    """How much more memory a process has held while it read this upload, in MiB."""
    small, file = folder / "small.png", folder / "upload"
    small.write_bytes(encoded(Image.new("RGBA", (64, 64)), "PNG"))
    file.write_bytes(data)
    command = [sys.executable, "-c", MEASURE, str(small), str(file)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize(
    ("mode", "size", "kind"),
    [
        ("RGBA", (4096, 4096), "PNG"),
        ("RGBA", (4096, 3072), "PNG"),
        ("P", (4096, 3072), "PNG"),
        ("LA", (4096, 3072), "PNG"),
        ("I;16", (4096, 3072), "PNG"),
        ("RGB", (4096, 4096), "JPEG"),
    ],
)
def test_an_upload_of_75_kb_takes_at_most_60_mb(tmp_path: Path, mode: str, size: tuple[int, int], kind: str) -> None:
    options = {"transparency": 0} if mode == "P" else {}
    assert megabytes(tmp_path, encoded(Image.new(mode, size), kind, **options)) <= 60


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("JPEG", {"progressive": True})])
def test_formats_whose_decoders_hold_more_take_at_most_120_mb(
    tmp_path: Path, kind: str, options: dict[str, bool]
) -> None:
    for size in ((4096, 4096), (4096, 3072), (3072, 2048)):
        assert megabytes(tmp_path, encoded(Image.new("RGB", size), kind, **options)) <= 120


def test_a_photograph_of_12_megapixels_is_taken_and_a_larger_picture_is_refused_by_its_size() -> None:
    photograph = read_init_image(encoded(Image.new("RGB", (4032, 3024), "#c60"), "PNG"))
    assert Image.open(io.BytesIO(photograph)).size == (LARGEST_KEPT, 768)
    with pytest.raises(BadRecipe, match=r"4096×4096 px: scale it to at most 12,582,912 px in all"):
        read_init_image(encoded(Image.new("RGBA", (4096, 4096)), "PNG"))


def test_a_picture_that_is_read_in_strips_keeps_its_colours() -> None:
    """Each row has a colour and a transparency of its own, so that a strip at the wrong place would show."""
    rows = np.arange(2500, dtype=np.uint16)
    pixels = np.zeros((2500, 1000, 4), np.uint8)
    pixels[..., 0], pixels[..., 1] = (rows // 16)[:, None], (rows % 256)[:, None]
    pixels[..., 3] = np.where(rows % 2, 255, 128)[:, None]
    image = Image.fromarray(pixels)
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    white.thumbnail((LARGEST_KEPT, LARGEST_KEPT), Image.Resampling.LANCZOS)
    read = Image.open(io.BytesIO(read_init_image(encoded(image, "PNG"))))
    assert np.array_equal(np.asarray(read), np.asarray(white))


# The gate


UPLOADS: dict[str, Callable[[bytes], tuple[str, dict[str, Any]]]] = {
    "native": lambda png: ("/api/v1/init-images", {"data": png, "content_type": "image/png"}),
    "OpenAI": lambda png: ("/v1/images/edits", {"data": {"prompt": "a", "image": (io.BytesIO(png), "a.png")}}),
    "AUTOMATIC1111": lambda png: (
        "/sdapi/v1/img2img",
        {"json": {"prompt": "a", "width": 64, "height": 64, "init_images": [base64.b64encode(png).decode()]}},
    ),
    "AI-Horde": lambda png: (
        "/api/v2/generate/async",
        {"json": {"prompt": "a", "source_image": base64.b64encode(png).decode()}},
    ),
    "form": lambda png: ("/", {"data": {"prompt": "a", "image": (io.BytesIO(png), "a.png")}}),
}


@pytest.mark.parametrize("dialect", UPLOADS)
def test_an_upload_is_charged_before_it_is_decoded(
    serve: Serve, client_for: ClientFor, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr("web.uploads.read_init_image", lambda data: decoded.append(data) or data)
    ada = client_for(serve(), "ada", daily=0)
    path, options = UPLOADS[dialect](encoded(Image.new("RGB", (64, 64)), "PNG"))
    answer = ada.post(path, **options)
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    assert not decoded


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/sdapi/v1/img2img", "init_images"),
        ("/sdapi/v1/png-info", "image"),
        ("/api/v2/generate/async", "source_image"),
    ],
)
def test_a_large_text_is_decoded_when_it_is_the_uploads_turn(
    serve: Serve, client_for: ClientFor, path: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, inside = serve(), list[int]()
    monkeypatch.setattr(
        "web.uploads.decode_letters", lambda _: inside.append(len(app.extensions["uploads"].inside)) or b""
    )
    text = base64.b64encode(bytes(100_000)).decode()
    client_for(app, "ada").post(path, json={"prompt": "a", field: [text] if field == "init_images" else text})
    assert inside == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of single threads")
def test_an_upload_is_read_at_a_lower_priority_than_requests_are_answered(
    serve: Serve, client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    readers: list[int] = []
    monkeypatch.setattr(
        "web.uploads.read_init_image", lambda data: readers.append(niceness()) or read_init_image(data)
    )
    ada, before = client_for(serve(), "ada"), niceness()
    file = encoded(Image.new("RGB", (64, 64)), "PNG")
    assert ada.post("/api/v1/init-images", data=file).status_code == 201
    assert before < readers[0] == NICENESS and niceness() == before


def test_a_painted_picture_that_another_starts_from_is_decoded_only_within_the_quota(
    serve: Serve,
    client_for: ClientFor,
    remember: Callable[..., Picture],
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr("web.uploads.read_init_image", lambda data: decoded.append(data) or data)
    ada = client_for(serve(), "ada", daily=0, scope="shared")
    body = {"prompt": "a", "width": 64, "height": 64, "init_image": remember(recipe).key}
    assert ada.post("/api/v1/jobs", json=body).status_code == 429 and not decoded


def test_what_is_refused_before_it_is_read_counts_for_nothing(serve: Serve, client_for: ClientFor) -> None:
    ada = client_for(app := serve(rate="2/hour", long_requests="1"), "ada")
    file = encoded(Image.new("RGB", (64, 64)), "PNG")
    with ada.get("/gallery/events"):
        assert [ada.post("/api/v1/init-images", data=file).status_code for _ in range(3)] == [429] * 3
    assert not app.extensions["long_requests"].by_user
    assert [ada.post("/api/v1/init-images", data=file).status_code for _ in range(3)] == [201, 201, 429]


def test_a_request_for_a_picture_that_starts_from_an_upload_counts_once(serve: Serve, client_for: ClientFor) -> None:
    ada = client_for(serve(rate="2/hour"), "ada")
    source = base64.b64encode(encoded(Image.new("RGB", (64, 64)), "PNG")).decode()
    body = {"prompt": "a red fox", "params": {"width": 64, "height": 64}, "source_image": source}
    assert [ada.post("/api/v2/generate/async", json=body).status_code for _ in range(3)] == [202, 202, 429]


def test_two_uploads_are_read_at_once_and_only_one_of_a_user() -> None:
    gate, inside = Gate(places=2), []

    def read(user: str) -> int:
        with gate.turn(user):
            inside.append(user)
            time.sleep(0.05)
            now = sorted(inside)
            inside.remove(user)
        return len(now) if len(now) == len(set(now)) else 99

    with ThreadPoolExecutor(9) as pool:
        most = list(pool.map(read, ["ada", "bob", "carol"] * 3))
    assert max(most) == 2


def test_an_upload_whose_key_is_removed_while_it_waits_is_not_read(
    serve: Serve, client_for: ClientFor, keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.limits.gates.RECHECK_SECONDS", 0.0)
    decoded: list[bytes] = []
    monkeypatch.setattr("web.uploads.read_init_image", lambda data: decoded.append(data) or data)
    ada, gate = client_for(app := serve(), "ada"), app.extensions["uploads"]
    with ThreadPoolExecutor(1) as pool:
        with gate.turn("bob"), gate.turn("carol"):
            answer = pool.submit(ada.post, "/api/v1/init-images", data=encoded(Image.new("RGB", (64, 64)), "PNG"))
            wait_for(lambda: gate.waiting)
            keys.remove("ada")
        assert answer.result().status_code == 401 and not decoded


def test_a_user_waits_for_one_turn_of_every_other_user_at_most() -> None:
    gate, entered, started = Gate(places=1), list[str](), threading.Event()

    def enter(user: str) -> None:
        with gate.turn(user):
            entered.append(user)
            assert started.wait(10)

    with ThreadPoolExecutor(20) as pool:
        for number, user in enumerate(["ada"] * 7 + ["bob"] * 7 + ["carol"], start=1):
            pool.submit(enter, user)
            wait_for(lambda number=number: len(entered) + gate.waiting.total() == number)
        started.set()
    assert len(entered) == 15 and entered[:5] == ["ada", "ada", "bob", "carol", "ada"]
    assert not gate.waiting and not gate.order and not gate.inside


def test_a_form_without_a_picture_is_small(serve: Serve, client_for: ClientFor) -> None:
    """Flask would read millions of its fields, without a turn and without counting it."""
    ada, options = client_for(serve(), "ada"), {"content_type": "application/x-www-form-urlencoded"}
    assert ada.post("/", data=b"a&" * 50_000, **options).status_code == 413
    assert ada.post("/api/v1/init-images", data=b"a&" * 50_000, **options).status_code == 422  # no picture


def test_a_picture_is_taken_with_the_content_type_that_curl_sends_by_default(
    serve: Serve, client_for: ClientFor
) -> None:
    file = encoded(Image.effect_noise((300, 300), 100), "PNG")
    kind = "application/x-www-form-urlencoded"
    answer = client_for(serve(), "ada").post("/api/v1/init-images", data=file, content_type=kind)
    assert answer.status_code == 201


def test_an_upload_that_gets_no_turn_is_refused_for_now() -> None:
    gate = Gate(places=1)
    with gate.turn("ada"), pytest.raises(Unavailable, match="try again later"), gate.turn("bob", seconds=0.01):
        pass


def test_a_request_that_waits_for_its_picture_has_left_the_gate(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.a1111.tasks.WAIT_SECONDS", 1.0)
    noise = Image.effect_noise((300, 300), 100)
    path, options = UPLOADS["AUTOMATIC1111"](encoded(noise, "PNG"))
    entered: list[str] = []
    monkeypatch.setattr(
        "web.a1111.tasks.watch_job", lambda *_: entered.extend(app.extensions["uploads"].inside) or ()
    )
    assert client.post(path, **options).status_code == 504
    assert not entered


def test_two_pictures_are_converted_at_once_and_only_one_for_a_user(
    serve: Serve, remember: Callable[..., Picture], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, picture, inside, most = serve(keys="off"), remember(recipe), [], []

    def convert(png: bytes, quality: int | None) -> bytes:
        inside.append(1)
        time.sleep(0.05)
        most.append(len(inside))
        inside.pop()
        return png

    def download(number: int) -> int:
        address = {"REMOTE_ADDR": f"10.0.0.{number % 3}"}
        path = f"/api/v1/pictures/{picture.key}/image?format=webp"
        return app.test_client().get(path, environ_overrides=address).status_code

    monkeypatch.setattr("web.api.routes.write_webp", convert)
    with ThreadPoolExecutor(9) as pool:
        assert set(pool.map(download, range(9))) == {200}
    assert max(most) == 2


@pytest.mark.parametrize("more", [0, 1, 2])
def test_large_base64_is_decoded_in_parts_as_in_one(more: int) -> None:
    data = random.Random(1).randbytes(PART * 2 + more)
    text = base64.b64encode(data).decode()
    for padding in ("", "=", "==", "==="):
        assert decode_base64("image", text.rstrip("=") + padding) == data
    for broken in (text[:PART] + "==" + text[PART:], text[:PART] + "*" + text[PART + 1 :], text + "A"):
        with pytest.raises(BadRecipe, match="send a picture in base64"):
            decode_base64("image", broken)
