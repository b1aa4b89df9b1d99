"""Mutated request bodies for each dialect: no 5xx, no traceback, and no second of computing.

Starts Redis, an index and a worker that paints flat colours, and sends the bodies to the web application in this
process. Each body is a valid one with a few fields replaced by hostile values, or with its bytes damaged.
"""

import argparse
import base64
import io
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from bench.fleet import MODELS, start_fleet
from jobs.models import Catalogue
from web import create_app
from web.a1111 import generation_request as a1111
from web.horde import generation_request as horde
from web.openai import generation_request as openai
from web.picture_requests import COUNT, FIELDS, MEMO, PRIORITY, USER, WEBHOOK

SLOW_SECONDS = 1.0  # of computing for one request; waiting for a picture does not count
JSON = "application/json"
BOUNDARY = "part"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
FOX = "a red fox in the snow"
TEXTS = (  # spellings that have broken a parser somewhere
    *("", " ", "0", "-1", "2", "1.5", "1e999", "NaN", "Infinity", "None", "null", "true", "off", "0x10", "9" * 5000),
    *("1024X1024", "64x64", "0x0", "64x", "data:image/png;base64,", "iVBORw0KGgo=", "https://example.org/fox.png"),
    *("\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT THREE}", "<lora:a:1e999>", "<lora:a:.5>", "<lora::>", "a###b"),
    *("\0", "\ud800", "\N{ZERO WIDTH SPACE}", "a" * 60_000, "a " * 30_000, "(" * 5_000, "../../etc/passwd"),
    *("DPM++ 2M Karras", "stickers", "dall-e-3", "auto", "exact", "{{7*7}}", "%s%n", "';--"),
)
NUMBERS = (0, 1, 2, -1, 2**31, 2**53, 2**63, 2**64, 10**400, 12.0, 0.5, -0.0, 1e308, float("inf"), float("nan"))
CONTENT_TYPES = (
    *(JSON, f"{JSON}; charset=utf-16", "application/problem+json", "text/plain", FORM, "multipart/form-data"),
    *("application/x-www-form-urlencoded", "", "a" * 2000, "application/json;;;="),
)
HEADERS = (
    *("Idempotency-Key", "X-Memo-Policy", "X-Stainless-Retry-Count", "apikey", "Authorization", "Content-Encoding"),
    *("Accept", "Cookie"),
)


@dataclass(frozen=True, slots=True)
class Body:
    """A request with a body."""

    path: str
    data: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a dialect takes bodies: valid ones by path, the fields that it knows, and valid forms by path."""

    bodies: Mapping[str, Mapping[str, Any]]
    fields: Sequence[str]
    forms: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)


def small_png() -> bytes:
    """A picture of 8 × 8 pixels."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((8, 8)).convert("RGB").save(file, "PNG")
    return file.getvalue()


PNG = small_png()
PNG_TEXT = base64.b64encode(PNG).decode()
SMALL = {"prompt": FOX, "width": 128, "height": 128, "steps": 2}
DIALECTS = {
    "native": Dialect({"/api/v1/jobs": SMALL}, (*FIELDS, MEMO, COUNT, USER, PRIORITY, WEBHOOK)),
    "openai": Dialect(
        {"/v1/images/generations": {"prompt": FOX, "size": "128x128", "num_inference_steps": 2}},
        openai.FIELDS,
        {"/v1/images/edits": {"prompt": FOX.encode(), "size": b"128x128", "image": PNG}},
    ),
    "a1111": Dialect(
        {
            "/sdapi/v1/txt2img": SMALL,
            "/sdapi/v1/img2img": {**SMALL, "init_images": [PNG_TEXT]},
            "/sdapi/v1/png-info": {"image": PNG_TEXT},
            "/sdapi/v1/options": {"sd_model_checkpoint": "stickers"},
            "/internal/progress": {"id_task": "task(fox)"},
        },
        (*a1111.DEFAULTS, *a1111.REFUSED, *a1111.REFUSED_HIRES, "alwayson_scripts", "image", "id_live_preview"),
    ),
    "horde": Dialect(
        {"/api/v2/generate/async": {"prompt": FOX, "params": {"width": 128, "height": 128, "steps": 2}}},
        tuple(sorted({name for name in (*horde.HANDLED, *horde.IGNORED, *horde.REFUSED)})),
    ),
}


@dataclass
class Findings:
    """What the bodies of one dialect led to."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds of computing
    slowest_refusal: float = 0.0  # seconds by the clock
    faults: list[str] = field(default_factory=list)

    def add(self, body: Body, status: int, computing: float, seconds: float) -> None:
        """Count an answer; a 5xx or a slow one is a fault."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, computing)
        self.slowest_refusal = max(self.slowest_refusal, seconds if status >= 400 else 0.0)
        if status >= 500 or computing > SLOW_SECONDS:
            start = f"{body.data[:300]!r}, {len(body.data)} bytes"
            self.faults.append(f"{status} after {computing:.2f} s: {body.path} {body.content_type[:60]} {start}")


def fuzz(client: FlaskClient, dialect: Dialect, count: int, number: int) -> Findings:
    """Send `count` bodies, always the same ones for the same seed `number`."""
    findings = Findings()

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=bodies(dialect))
    def send_each(body: Body) -> None:
        findings.add(body, *send(client, body))

    send_each()
    return findings


def send(client: FlaskClient, body: Body) -> tuple[int, float, float]:
    """The status, and the seconds of computing and by the clock until the whole answer is there.

    An exception that the application does not handle counts as 500.
    """
    began, started = time.thread_time(), time.monotonic()
    try:
        answer = client.post(
            body.path, data=body.data, content_type=body.content_type or None, headers=dict(body.headers)
        )
        status = answer.status_code
    except Exception:
        logging.getLogger(__name__).exception("%s %.300r", body.path, body.data)
        status = 500
    return status, time.thread_time() - began, time.monotonic() - started


def bodies(dialect: Dialect) -> st.SearchStrategy[Body]:
    """Bodies of a dialect: mostly JSON with hostile fields, else damaged bytes, and forms where there are any."""
    changed = st.tuples(st.sampled_from(sorted(dialect.bodies)), changes(dialect.fields)).map(
        lambda drawn: (drawn[0], merge(dialect.bodies[drawn[0]], drawn[1]))
    )
    as_json = changed.map(lambda drawn: (drawn[0], json.dumps(drawn[1]).encode()))
    damaged = st.builds(damage, as_json, st.randoms(use_true_random=False), st.binary(max_size=40))
    either = st.one_of(as_json, as_json, damaged)
    plain = st.builds(json_body, either, st.just(JSON), HEADER)
    mislabelled = st.builds(json_body, as_json, st.sampled_from(CONTENT_TYPES), st.just({}))
    kinds = [plain, plain, plain, mislabelled]
    if dialect.forms:
        kinds += [st.builds(form, st.sampled_from(sorted(dialect.forms.items())), PARTS)] * 2
    return st.one_of(*kinds)


TEXT = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=()), max_size=60))
LEAF = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), st.floats(), TEXT)
VALUE = st.one_of(
    LEAF,
    st.recursive(
        LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
    ),
    st.integers(1, 3000).map(lambda depth: nest(depth)),
)
USUAL = st.sampled_from(
    (1, 2, 3, 8, 20, 64, 128, 0.5, 0, 7.5, -1, True, False, None, [], {}, "", "1", "128", "1.0", "true", "FALSE")
    + ("stickers", "auto", "exact", "euler", "Euler a", "DDIM", "karras", "png", "b64_json", "url", "me", FOX)
)
HEADER = st.dictionaries(
    st.sampled_from(HEADERS), st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=300), max_size=1
)
PARTS = st.lists(
    st.tuples(
        st.sampled_from(
            ("image", "image[]", "mask", "prompt", "n", "size", "seed", "stream", "memo", "user", "x", "")
        ),
        st.sampled_from((None, "", "fox.png", '../fox"\\.png', "a" * 3000)),
        st.one_of(
            USUAL.map(lambda value: str(value).encode()),
            st.just(PNG),
            st.binary(max_size=60),
            TEXT.map(lambda text: text.encode(errors="surrogatepass")),
        ),
    ),
    max_size=5,
)


def json_body(drawn: tuple[str, bytes], content_type: str, headers: Mapping[str, str]) -> Body:
    """The drawn path and bytes as a request."""
    path, data = drawn
    return Body(path, data, content_type, headers)


def changes(fields: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Fields with other values: one or two with usual ones, the prompt alone, or up to four with hostile ones.

    Only hostile values would be refused nearly always, and what comes after reading a request would not be tried.
    """
    known = st.sampled_from(sorted(fields))
    usual = st.dictionaries(known, USUAL, min_size=1, max_size=2)
    prompt = st.fixed_dictionaries({"prompt": TEXT})
    hostile = st.dictionaries(st.one_of(*[known] * 6, TEXT), VALUE, min_size=1, max_size=4)
    return st.one_of(usual, usual, prompt, hostile)


def merge(valid: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The valid body with the changes; `params.seed` is the field seed in the object params."""
    body = {name: dict(value) if isinstance(value, dict) else value for name, value in valid.items()}
    for name, value in changed.items():
        outer, _, inner = name.partition(".")
        if inner and isinstance(body.get(outer), dict):
            body[outer][inner] = value
        else:
            body[name] = value
    return body


def nest(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(min(depth, 900)):  # json.dumps cannot write deeper ones
        value = [value]
    return value


def damage(drawn: tuple[str, bytes], random: Any, rubbish: bytes) -> tuple[str, bytes]:
    """The path, and the bytes cut, doubled, wrapped or overwritten."""
    path, data = drawn
    place = random.randrange(len(data) + 1)
    ways: list[Callable[[], bytes]] = [
        lambda: data[:place],
        lambda: data[:place] + rubbish + data[place:],
        lambda: data[:place] + rubbish + data[place + len(rubbish) :],
        lambda: data[:-1] + b"," + data[1:],  # every field twice
        lambda: b"[" * random.randrange(1, 60_000) + data,
        lambda: b'{"prompt":' * random.randrange(1, 5_000) + b"1",
        lambda: b'{"prompt": "fox", "seed": ' + b"9" * random.randrange(1, 60_000) + b"}",
        lambda: b"[" + data + b"]",
        lambda: data.decode().encode("utf-16"),
        lambda: b"\xef\xbb\xbf" + data,
        lambda: rubbish,
    ]
    return path, random.choice(ways)()


def form(drawn: tuple[str, Mapping[str, bytes]], parts: list[tuple[str, str | None, bytes]]) -> Body:
    """A multipart form with the valid parts that `parts` do not replace; a file name of None is left out."""
    path, valid = drawn
    replaced = {name for name, _, _ in parts}
    whole = [*((name, None, data) for name, data in valid.items() if name not in replaced), *parts]
    pieces = []
    for name, file, data in whole:
        filename = "" if file is None else f'; filename="{file}"'
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        pieces.append(head.encode() + data + b"\r\n")
    return Body(path, b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode(), FORM)


@contextmanager
def start_app(text_folder: Path) -> Iterator[Flask]:
    """The web application over a Redis, an index and a worker of its own."""
    with tempfile.TemporaryDirectory() as folder, start_fleet(Path(folder), text_folder, step_seconds=0.0) as fleet:
        fleet.start("worker-1")
        yield create_app(fleet.open_memory(), fleet.open_queue(), Catalogue(MODELS))


def main() -> None:
    """Print a line for each dialect, then the faults; the exit status is 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="bodies for each dialect")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    options = parser.parse_args()
    faults = []
    with start_app(options.text_folder) as app:
        for name, dialect in DIALECTS.items():
            findings = fuzz(app.test_client(), dialect, options.count, options.seed)
            statuses = ", ".join(f"{status}: {number}" for status, number in sorted(findings.statuses.items()))
            print(f"{name:<8} {statuses}; at most {findings.slowest:.2f} s of computing", flush=True)
            faults += findings.faults
    print(*faults, f"{len(faults)} faults", sep="\n")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
