"""Texts of requests: megabytes are read in linear time, and halves of surrogate pairs never reach Redis."""

import base64
import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from jobs.models import Model
from jobs.prompt import draw_choices, read_prompt
from jobs.webhooks.receivers import read_url
from memo import BadKey, BadRecipe, MemoError, from_text
from memo.judge.llm import find_object
from memo.judge.relaxed import strip_harmless_extras
from memo.judge.rules import decide_by_rules
from memo.judge.unknown_words import correct_typos, find_rare_word_conflict
from memo.recipe import LONGEST_PROMPT, tidy
from tests.real import finished
from web import uploads
from web.a1111 import generation_request as a1111
from web.a1111.infotext import read_settings
from web.horde import generation_request as horde
from web.openai import generation_request as openai

MEGABYTE = 2**20
CPU_SECONDS = 10.0  # for a megabyte, on any machine; what reads it again for each letter needs hours
MODELS = {
    "stickers": Model(
        name="stickers", revision="1" * 16, title="", licence="", folder=Path(), sizes=(64,), defaults={}
    )
}
PIECES = (
    *(
        "a ",
        " ",
        "\n",
        ":",
        '"',
        "'",
        "“",
        "[",
        "(",
        ",",
        "0",
        "\\",
        "<lora:",
        "{",
        "{a|",
        "__a",
        "*a",
        "`",
        "\u200b",
    ),
    *("e\u0301", "\u0301\u0316", "Aaa ", "a b:", 'a:"', "Negative prompt:", "data:"),
)
Reader = Callable[[str], object]
READERS: dict[str, Reader] = {
    "infotext": read_settings,
    "last line of an infotext": lambda text: read_settings(f"a fox\nSteps: 1, Seed: 2, CFG scale: 3, {text}"),
    "checkpoint": lambda text: a1111.find_model(f"stickers {text}", MODELS),
    "checkpoint with blanks": lambda text: a1111.find_model(f"stickers{text}x", MODELS),
    "tags": lambda text: a1111.read_prompts({"prompt": text}),
    "one tag": lambda text: a1111.read_prompts({"prompt": f"<lora:{text}>"}),
    "number": a1111.to_number,
    "task": lambda text: a1111.read_task({"force_task_id": text}),
    "picture in base64": lambda text: uploads.decode_base64("image", f"data:{text}"),
    "prompt": lambda text: draw_choices(read_prompt("prompt", text)[0], Random(1)),
    "search words": lambda text: tidy("near", text),
    "recipe text": lambda text: from_text(f"memo1.{text}"),
    "webhook": read_url,
    "size": openai.read_size,
    "OpenAI's fields": lambda text: openai.check_values({"user": text, "size": text, "quality": text}),
    "Horde": lambda text: horde.read_request({"prompt": text, "params": {"seed": text}}, MODELS),
    "answer of a language model": find_object,
    "accents": lambda text: tidy("near", f"e{text[:6000]}"),
}
JUDGED: dict[str, Callable[[str, str], object]] = {
    "rules": decide_by_rules,
    "typos": lambda old, new: correct_typos(old, new, lambda word: 1),
    "rare words": lambda old, new: find_rare_word_conflict(old, new, lambda word: 9),
    "relaxed": strip_harmless_extras,
}


@contextmanager
def limited_cpu(seconds: float = CPU_SECONDS) -> Iterator[None]:
    """Fail if the block computed for longer. Where it would compute for hours, the time limit of the test ends it."""
    started = time.thread_time()
    yield
    assert time.thread_time() - started < seconds


@pytest.mark.parametrize("name", READERS)
def test_a_megabyte_of_any_text_is_read_or_refused_in_seconds(name):
    for piece in PIECES:
        text = piece * (MEGABYTE // len(piece))
        with limited_cpu(), suppress(BadRecipe, BadKey):
            READERS[name](text)


@pytest.mark.parametrize("name", JUDGED)
def test_the_longest_prompts_are_compared_in_seconds(name):
    for piece in (*PIECES, "abcdefgh" * 24 + " ", "hgfedcba" * 24 + "ab "):
        old = (piece * LONGEST_PROMPT)[: LONGEST_PROMPT - 9]
        with limited_cpu():
            JUDGED[name](old, f"{old[3:]} a red fox")


def a_png(chunks: bytes) -> str:
    """A small PNG with further chunks, in base64."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    data = file.getvalue()
    place = data.index(b"IDAT") - 4
    return base64.b64encode(data[:place] + chunks + data[place:]).decode()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_small_file_that_unpacks_to_many_letters_is_read_in_seconds(client):
    text = zlib.compress(b"a " * 65_000, 9)
    image = a_png(chunk(b"zTXt", b"parameters\0\0" + text))
    with limited_cpu():
        answer = client.post("/sdapi/v1/png-info", json={"image": image})
    assert answer.status_code == 200 and answer.json["parameters"]["Negative prompt"] == ""


def test_texts_that_unpack_to_many_megabytes_are_not_read(client):
    text = zlib.compress(b"a " * 500_000, 9)
    image = a_png(b"".join(chunk(b"zTXt", f"name{number}\0\0".encode() + text) for number in range(200)))
    with limited_cpu(3 * CPU_SECONDS):
        answer = client.post("/sdapi/v1/png-info", json={"image": image})
    assert answer.status_code in (200, 422) and len(answer.data) < 8 * MEGABYTE


HALVES = ("\ud83e", "a \udc00 fox", "\udfff\ud800")
BODIES = {
    "/api/v1/jobs": [
        {"prompt": "a fox", "user": "HALF"},
        {"prompt": "HALF"},
        {"prompt": "a fox", "model": "HALF"},
        {"prompt": "a fox", "webhook": "https://example.com/HALF"},
        {"prompt": "a fox", "HALF": 1},
    ],
    "/v1/images/generations": [
        {"prompt": "a fox", "user": "HALF"},
        {"prompt": "HALF"},
        {"prompt": "a fox", "safety_identifier": "HALF"},
        {"prompt": "a fox", "memo": {"policy": "HALF"}},
    ],
    "/sdapi/v1/txt2img": [
        {"prompt": "HALF"},
        {"prompt": "a fox", "force_task_id": "HALF"},
        {"prompt": "a fox", "override_settings": {"sd_model_checkpoint": "HALF"}},
        {"prompt": "a fox", "script_args": ["HALF"]},
    ],
    "/internal/progress": [{"id_task": "HALF"}],
    "/sdapi/v1/options": [{"sd_model_checkpoint": "HALF"}],
    "/api/v2/generate/async": [
        {"prompt": "HALF"},
        {"prompt": "a fox", "params": {"seed": "HALF"}},
        {"prompt": "a fox", "unknown": ["HALF"]},
    ],
}


@pytest.mark.parametrize("path", BODIES)
def test_half_of_a_surrogate_pair_is_refused_in_every_field_of_every_dialect(client, path):
    status = 422 if path.startswith(("/api/v1", "/sdapi", "/internal")) else 400
    for body in BODIES[path]:
        for half in HALVES:
            text = json.dumps(body).replace("HALF", json.dumps(half)[1:-1])
            answer = client.post(path, data=text, content_type="application/json")
            assert answer.status_code == status and "surrogate" in answer.text, (body, answer.text)


def test_a_whole_surrogate_pair_is_one_character(client):
    answer = client.post(
        "/api/v1/jobs", data='{"prompt": "a fox", "user": "\\ud83e\\udd8a"}', content_type="application/json"
    )
    assert answer.status_code == 202


def test_bytes_that_are_no_text_are_refused(client):
    for data in (b'{"prompt": "a \xed\xa0\xbe fox"}', b'{"prompt": "a \xff fox"}'):
        answer = client.post("/api/v1/jobs", data=data, content_type="application/json")
        assert answer.status_code == 400 and "not valid JSON" in answer.json["detail"]


def test_any_cookie_of_a_visitor_is_a_name(client):
    for cookie in ("\xed\xa0\x80", "\xff\xfe", "a" * 5000, "ü"):
        headers = {"Cookie": f"visitor={cookie}", "Content-Type": "application/json"}
        assert client.post("/api/v1/jobs", data='{"prompt": "a fox"}', headers=headers).status_code == 202


def test_a_number_in_a_query_that_only_begins_like_a_small_one_is_refused(client):
    for number in ("000000024" + "0" * 5000, "000000024999", "9" * 5000, "000000101", "²", "٣"):
        answer = client.get("/api/v1/pictures", query_string={"limit": number})
        assert answer.status_code == 422 and answer.json["field"] == "limit"
    assert client.get("/api/v1/pictures?limit=024").status_code == 200


def test_any_number_of_an_attempt_is_read(client, working):
    for attempt in ("²", "9" * 5000, "-1", "", "1"):
        headers = {"X-Stainless-Retry-Count": attempt}
        answer = client.post("/v1/images/generations", json={"prompt": "a fox", "size": "64x64"}, headers=headers)
        assert answer.status_code == 200


def test_the_horde_names_the_first_unknown_fields_and_counts_the_rest(client):
    body = {"prompt": "a fox", **{f"unknown{number}": 1 for number in range(3000)}}
    answer = client.post("/api/v2/generate/async", json=body)
    warnings = [warning for warning in answer.json["warnings"] if warning["code"] == "UnknownField"]
    assert answer.status_code == 202 and len(warnings) <= 11 and "2990 more" in warnings[-1]["message"]


MORE_INVISIBLE = (
    "\u202a\u202c\u202e\u2066\u2068\u2069\u17b4\u180b\u180f\ufe00\ufe0f\ufff0\U0001bca0\U0001d173\U000e0100"
)


def test_an_invisible_character_is_dropped_from_every_prompt(client):
    for sign in "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u061c\u180e\u2061\u034f\U000e0041" + MORE_INVISIBLE:
        body = {"prompt": f"{sign}a red{sign} f{sign}ox", "negative_prompt": f"bl{sign}urry"}
        recipe = client.post("/api/v1/jobs", json=body).json["recipe"]
        assert (recipe["prompt"], recipe["negative_prompt"]) == ("a red fox", "blurry")
        assert client.get("/api/v1/pictures", query_string={"near": f"f{sign}ox"}).status_code == 200


def test_joiners_are_kept_where_they_make_an_emoji_or_a_letter():
    kept = ("👩\u200d🚀", "❤\ufe0f\u200d🔥", "می\u200cخواهم", "ක\u0dca\u200dෂ", "🏴\U000e0067\U000e0062\U000e007f")
    kept += ("☺\ufe0f", "1\ufe0f\u20e3", "©\ufe0f", "葛\U000e0100")
    for text in kept:
        assert tidy("prompt", text) == text
    assert tidy("prompt", "a\u200d🚀 b\u200c c\U000e0061d") == "a🚀 b cd"


def test_letters_of_other_forms_are_read_as_letters(client):
    body = {"prompt": "ｒｅｄ 𝐟𝐨𝐱, coﬀee, Elizabeth Ⅱ"}
    assert client.post("/api/v1/jobs", json=body).json["prompt"] == "red fox, coffee, Elizabeth II"


@pytest.mark.parametrize("prompt", ["½ of a pizza", "x² + y²", "①", "a café", "№ 5 at 20 °C", "Straße", "ºª"])
def test_signs_that_are_no_letters_are_kept_as_they_are(prompt):
    assert tidy("prompt", prompt) == prompt


def test_hundreds_of_marks_over_one_letter_are_refused():
    with pytest.raises(BadRecipe, match="marks"):
        tidy("prompt", "a fox" + "\u0301\u0316" * 400)
    assert tidy("prompt", "e\u0301" * 900) == "é" * 900


def test_signs_of_writing_are_passed_over(client):
    for prompt in ("a ° ™ © ® ^ ` ´ sign", "red^2 fox™", "a fox at 20 °C"):
        answer = client.post("/api/v1/jobs", json={"prompt": prompt})
        assert answer.status_code == 202 and answer.json["prompt"] == prompt


def test_a_body_of_hundreds_of_levels_is_refused(client):
    for depth in (500, 900, 940, 960, 980, 990, 100_000):
        for path in ("/api/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img", "/api/v2/generate/async"):
            text = '{"prompt": ' + "[" * (depth // 2) + "]" * (depth // 2) + "}"
            answer = client.post(path, data=text, content_type="application/json")
            assert 400 <= answer.status_code < 500, (path, depth, answer.text)


def test_a_painting_whose_error_is_no_text_fails_with_it(client, queue, working, painter):
    painter.fault = MemoError("cannot read '\udcff.safetensors'")
    job = client.post("/api/v1/jobs", json={"prompt": "a fox", "width": 64, "height": 64}).json["id"]
    assert "cannot read '?.safetensors'" in finished(queue, job).error
