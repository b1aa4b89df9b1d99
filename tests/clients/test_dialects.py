"""What clients of other servers send: spellings that mean the same are taken, and switches that are off are off."""

import base64
import io
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.sansio.multipart import MultipartDecoder

from jobs.job import Job, State
from jobs.models import Catalogue
from jobs.queue import Queue
from memo import BadRecipe, Recipe
from web.a1111 import alwayson_scripts, generation_request
from web.access import seconds_until_done
from web.horde.routes import progress
from web.openai import edit_form
from web.openai.generation_request import FIELDS, read_images_request
from web.picture_requests import LARGEST_SEED
from web.uploads import decode_base64

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 2}
IMAGES = {"prompt": FOX["prompt"], "size": "64x64", "num_inference_steps": 2}
HORDE = {"prompt": FOX["prompt"], "params": {"width": 64, "height": 64, "steps": 2}}
BIG_SEED = 2**62 + 12345
FOLDED = BIG_SEED & LARGEST_SEED


@pytest.fixture
def catalogue(tiny_models: Any) -> Catalogue:
    return Catalogue(tiny_models)


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def a1111(catalogue: Catalogue, **body: Any) -> generation_request.A1111Request:
    options: dict[str, Any] = {"preferred_model": "", "img2img": False}
    return generation_request.read_request({**FOX, **body}, catalogue.models(), **options)


def horde(client: FlaskClient, **params: Any) -> Any:
    body = {**HORDE, "params": {**HORDE["params"], **params}}  # type: ignore[dict-item]
    return client.post("/api/v2/generate/async", json=body)


NO_NAMES = ([], {}, [[]], {"a": {}}, ["stickers"], 7, True)
MODEL_OF = {  # requests with this as the model's name, in each dialect
    "/api/v1/jobs": lambda name: {**FOX, "model": name},
    "/v1/images/generations": lambda name: {**IMAGES, "model": name},
    "/api/v2/generate/async": lambda name: {**HORDE, "models": [name]},
    "/sdapi/v1/txt2img": lambda name: {**FOX, "override_settings": {"sd_model_checkpoint": name}},
    "/sdapi/v1/options": lambda name: {"sd_model_checkpoint": name},
}


@pytest.mark.parametrize("path", MODEL_OF)
@pytest.mark.parametrize("name", NO_NAMES, ids=json.dumps)
def test_a_model_that_is_no_name_is_refused_in_every_dialect(client: FlaskClient, path: str, name: object) -> None:
    assert client.post(path, json=MODEL_OF[path](name)).status_code in (400, 404, 422)


# OpenAI


@pytest.mark.parametrize(
    ("sent", "field", "value"),
    [
        ({"n": "2"}, "count", 2),
        ({"n": 2.0}, "count", 2),
        ({"n": " 3 "}, "count", 3),
        ({"stream": "True"}, "stream", True),
        ({"stream": 0}, "stream", False),
        ({"stream": " yes"}, "stream", True),
        ({"model": " stickers"}, "model", "stickers"),
        ({"model": "DALL-E-3"}, "model", "stickers"),
        ({"model": "GPT-Image-1"}, "as_url", False),
        ({"image": [], "mask": {}}, "count", 1),
        ({"response_format": "B64_JSON"}, "as_url", False),
        ({"user": ""}, "user", ""),
        ({"model": "", "quality": "", "style": "", "background": ""}, "notes", ()),
    ],
)
def test_the_images_api_takes_usual_spellings(catalogue: Catalogue, sent: Any, field: str, value: object) -> None:
    assert getattr(read_images_request({**IMAGES, **sent}, catalogue), field) == value


@pytest.mark.parametrize(
    "size", ["64X64", "64×64", " 64 x 64 ", "64*64", "64✕64", "64х64", "64px x 64PX", "64\u00a0x  64"]
)
def test_the_images_api_takes_a_size_with_any_sign_for_times(catalogue: Catalogue, size: str) -> None:
    assert read_images_request({**IMAGES, "size": size}, catalogue).body["width"] == 64


def test_jpg_is_jpeg(catalogue: Catalogue) -> None:
    assert read_images_request({**IMAGES, "output_format": "JPG"}, catalogue).output.format == "jpeg"


@pytest.mark.parametrize("edit", [False, True])
def test_an_empty_field_of_the_images_api_counts_as_left_out(catalogue: Catalogue, edit: bool) -> None:
    empty = {name: "" for name in (*FIELDS, "mask", "image") if name not in ("prompt", "size", "num_inference_steps")}
    with_empty = read_images_request({**IMAGES, **empty}, catalogue, edit=edit)
    assert with_empty == read_images_request(IMAGES, catalogue, edit=edit)


def test_a_field_of_edits_only_is_not_called_unknown(catalogue: Catalogue) -> None:
    with pytest.raises(BadRecipe, match="only edits have this field"):
        read_images_request({**IMAGES, "strength": 0.5}, catalogue)


def test_a_prompt_of_the_images_api_is_still_needed(catalogue: Catalogue, client: FlaskClient) -> None:
    answer = client.post("/v1/images/generations", json={**IMAGES, "prompt": ""})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize("model", [["stickers"], {"name": "stickers"}, 7, True])
def test_a_model_that_is_no_name_is_refused(client: FlaskClient, model: object) -> None:
    answer = client.post("/v1/images/generations", json={**IMAGES, "model": model})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")


def form(*parts: tuple[str, str | None, bytes]) -> dict[str, Any]:
    """A multipart form of (name, file name, bytes); a part without a file name is a text for most readers."""
    pieces = []
    for name, file, data in (*parts, *[(name, None, str(value).encode()) for name, value in IMAGES.items()]):
        filename = "" if file is None else f'; filename="{file}"'
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        pieces.append(head.encode() + data + b"\r\n")
    return {"data": b"".join(pieces) + b"--b--\r\n", "content_type": "multipart/form-data; boundary=b"}


DATA_URL = b"data:image/png;name=a.png;base64," + base64.b64encode(png())


@pytest.mark.parametrize(
    "parts",
    [
        [("image", "fox.png", png())],
        [("image", None, png())],
        [("image[]", "", png())],
        [("image", None, DATA_URL)],
        [("image", "fox.png", png()), ("mask", "", b""), ("user", None, b"")],
        [("image", "", b""), ("image", "fox.png", png())],
    ],
)
def test_an_edit_takes_its_picture_however_it_is_sent(
    client: FlaskClient, queue: Queue, working: object, parts: list[tuple[str, str | None, bytes]]
) -> None:
    answer = client.post("/v1/images/edits", **form(*parts))
    assert answer.status_code == 200, answer.text
    assert queue.job_store.jobs.recent(1)[0].recipe.init_image


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([], "image"),
        ([("image", "", b"")], "image"),
        ([("image", "a.png", png()), ("image[]", "b.png", png())], "image"),
        ([("image", "a.png", png()), ("mask", "m.png", png())], "mask"),
        ([("image", None, b"data:image/png;base64,???")], "image"),
    ],
)
def test_an_edit_without_one_usable_picture_is_refused(client: FlaskClient, parts: Any, param: str) -> None:
    answer = client.post("/v1/images/edits", **form(*parts))
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_a_large_form_is_decoded_in_pieces(
    client: FlaskClient, queue: Queue, working: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The regular expressions of the decoder take seconds for some forms of 15 MB, and stop all threads meanwhile."""
    sizes: list[int] = []

    class Noting(MultipartDecoder):
        def receive_data(self, data: bytes | None) -> None:
            sizes.append(len(data or b""))
            super().receive_data(data)

    monkeypatch.setattr(edit_form, "MultipartDecoder", Noting)
    monkeypatch.setattr(edit_form, "PIECE", 50)
    answer = client.post("/v1/images/edits", **form(("image", "fox.png", png())))
    assert answer.status_code == 200, answer.text
    assert len(sizes) > 5 and max(sizes) <= 50


def test_forms_that_take_long_to_decode_are_refused(client: FlaskClient) -> None:
    """Before, each of these stopped all threads for seconds."""
    boundary, dashes = "-" * 16_000 + "X", b"-" * 60_000
    for path in ("/v1/images/edits", "/api/v1/init-images", "/sign-in", "/"):
        answer = client.post(path, data=dashes, content_type=f"multipart/form-data; boundary={boundary}")
        assert answer.status_code == 400 and "boundary" in answer.text
    header = b"--b\r\nContent-Disposition: form-data; name=image" + b";aa=bb" * 100_000 + b"\r\n\r\nx\r\n--b--"
    answer = client.post("/v1/images/edits", data=header, content_type="multipart/form-data; boundary=b")
    assert answer.status_code == 413


def test_a_size_that_takes_long_to_read_is_refused(client: FlaskClient) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": "a fox", "size": "1" + " " * 60_000 + "!"})
    assert answer.status_code == 400 and answer.json["error"]["param"] == "size"


def test_a_broken_form_is_a_bad_request(client: FlaskClient) -> None:
    for data in (b"", b"--b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", b"no form at all"):
        answer = client.post("/v1/images/edits", data=data, content_type="multipart/form-data; boundary=b")
        assert answer.status_code == 400


# AUTOMATIC1111

UNIT = {"ad_model": "face.pt"}


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        False,
        "false",
        {"args": []},
        {"args": None},
        {"args": [False, True, UNIT]},
        {"args": ["off", UNIT]},
        {"args": [0, UNIT]},
        {"args": [{"ad_model": "None"}]},
        {"args": [None, {"ad_model": "none"}, {"ad_model": ""}]},
        {"args": [True, False, {"ad_model": "None"}]},
        {"args": [{"ad_model": "face.pt", "ad_tab_enable": False}]},
        {"args": [{"enabled": "false"}, {"enabled": 0}, {"enable": "0"}, {"is_enabled": False}]},
        {"args": [{"enabled": "no"}, {"enabled": "F"}, {"enabled": "n"}]},
        {"args": {"enabled": False}},
    ],
)
def test_a_script_that_is_off_is_off_however_that_is_written(values: object) -> None:
    assert alwayson_scripts.read_policy({"ADetailer": values}) == ""


@pytest.mark.parametrize(
    "values",
    [
        True,
        {"args": [True]},
        {"args": [None, UNIT]},
        {"args": [UNIT]},
        {"args": [True, False, UNIT]},
        {"args": [{"ad_model": "None"}, UNIT]},
        {"args": [{"enabled": False}, {"enabled": "true"}]},
        {"args": [{"module": "canny"}]},
        {"args": [True, True, {}]},
        {"enabled": True},
    ],
)
def test_a_script_with_one_unit_that_is_on_is_refused(values: object) -> None:
    with pytest.raises(BadRecipe, match=r"alwayson_scripts\.ADetailer"):
        alwayson_scripts.read_policy({"ADetailer": values})


@pytest.mark.parametrize("values", ["off", ["off"], " OFF", {"memo": "Off"}, {"args": [None, {"memo": "off"}]}])
def test_the_memory_policy_is_obeyed_however_it_is_wrapped(values: object) -> None:
    assert alwayson_scripts.read_policy({"memoAIzed": values}) == "off"


@pytest.mark.parametrize("values", [False, 0, ["off", "exact"], {"policy": "off"}, {"args": [{"memo": 1}]}])
def test_a_memory_policy_that_cannot_be_read_is_refused(values: object) -> None:
    with pytest.raises(BadRecipe, match=r"alwayson_scripts\.memoaized"):
        alwayson_scripts.read_policy({"memoaized": values})


def test_switches_and_numbers_of_a1111_may_be_text(catalogue: Catalogue) -> None:
    request = a1111(
        catalogue,
        **{"steps": "4", "cfg_scale": "", "width": "64.0", "batch_size": "2", "n_iter": None, "enable_hr": "false"},
        **{"restore_faces": "false", "tiling": 0, "script_name": "none", "send_images": "false"},
        styles=["", "None"],
        controlnet_units=[{"enabled": False}, {"enabled": None}],
        override_settings={"CLIP_stop_at_last_layers": "1.0", "sd_vae": "automatic"},
    )
    native = request.native
    assert (native["steps"], native["width"], native["guidance_scale"], request.count) == (4, 64, None, 2)
    assert request.parameters["send_images"] is False and not request.hires


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"restore_faces": "true"}, "restore_faces"),
        ({"controlnet_units": [{"enabled": 1}]}, "controlnet_units"),
        ({"enable_hr": "perhaps"}, "enable_hr"),
        ({"styles": ["None", "anime"]}, "styles"),
        ({"controlnet_units": [{"enabled": None}, {"enabled": 1}]}, "controlnet_units"),
    ],
)
def test_what_is_on_is_still_refused(catalogue: Catalogue, body: Any, field: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        a1111(catalogue, **body)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("tag", "adapter"),
    [
        ("ink:.5", "ink:0.5"),
        ("ink:+0.5", "ink:0.5"),
        ("ink:1.", "ink:1"),
        ("ink:-.25", "ink:-0.25"),
        ("ink:1:1.0", "ink:1"),
    ],
)
def test_the_weight_of_a_lora_file_may_be_written_like_any_number(tag: str, adapter: str) -> None:
    assert generation_request.read_prompts({"prompt": f"a fox <lora:ink{tag}>"})["adapter"] == f"ink{adapter}"


def test_the_progress_covers_all_pictures_and_not_the_running_one_alone(app: Flask, recipe: Recipe) -> None:
    def job(**more: Any) -> Job:
        values = {"id": "a", "painting": "p", "state": State.QUEUED, "reason": "", "created": 0.0}
        return Job(**{**values, "origin": "painted", "recipe": recipe, **more})  # type: ignore[arg-type]

    running = job(state=State.RUNNING, step=recipe.steps // 4, seconds_left=9.0)
    jobs = [running, job(position=0), job(position=1), job(position=2)]
    with app.test_request_context(environ_base={"REMOTE_ADDR": "127.0.0.1"}):
        assert seconds_until_done([running]) == 9.0
        assert seconds_until_done(jobs) == pytest.approx(9 + 3 * 12)
        assert progress(jobs)["wait_time"] == 45 and seconds_until_done([]) == 0.0


# Seeds


def test_a_seed_of_63_bits_is_folded_and_the_answer_says_so(
    client: FlaskClient, catalogue: Catalogue, queue: Queue
) -> None:
    images = read_images_request({**IMAGES, "seed": BIG_SEED}, catalogue)
    assert images.body["seed"] == FOLDED and str(FOLDED) in images.notes[0]
    request = a1111(catalogue, seed=str(BIG_SEED))
    assert request.native["seed"] == FOLDED and str(FOLDED) in request.notes[0]
    answer = horde(client, seed=str(BIG_SEED))
    assert "SeedTooLarge" in [warning["code"] for warning in answer.json["warnings"]]
    assert queue.job_store.jobs.recent(1)[0].recipe.seed == FOLDED


def test_the_note_about_a_seed_reaches_the_client_of_a1111(client: FlaskClient, working: object) -> None:
    info = json.loads(client.post("/sdapi/v1/txt2img", json={**FOX, "seed": BIG_SEED}).json["info"])
    assert str(FOLDED) in info["extra_generation_params"]["Memo notes"][0] and info["seed"] == FOLDED


@pytest.mark.parametrize("seed", [2**64, 10**400, 1.5, -(2**62), [1], {"a": 1}])
def test_a_seed_that_no_client_draws_is_refused(client: FlaskClient, seed: object) -> None:
    assert client.post("/api/v1/jobs", json={**FOX, "seed": seed}).status_code == 422
    assert client.post("/v1/images/generations", json={**IMAGES, "seed": seed}).status_code == 400
    assert client.post("/sdapi/v1/txt2img", json={**FOX, "seed": seed}).status_code == 422
    assert horde(client, seed=seed).status_code == 400


def test_the_native_api_folds_no_seed(client: FlaskClient) -> None:
    assert client.post("/api/v1/jobs", json={**FOX, "seed": BIG_SEED}).json["field"] == "seed"
    assert client.post("/api/v1/jobs", json={**FOX, "seed": 7.0, "count": 2.0}).status_code == 202


# AI-Horde


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": "a" * 3000}, "InvalidPromptSize"),
        ({"prompt": f"a fox ### {'a' * 3000}"}, "InvalidPromptSize"),
        ({"prompt": "a fox \x00"}, "BadRequest"),
        ({"prompt": "  "}, "MissingPrompt"),
        ({"prompt": None}, "MissingPrompt"),
        ({"prompt": ["a fox"]}, "MissingPrompt"),
    ],
)
def test_the_code_of_a_prompt_says_what_is_wrong_with_it(client: FlaskClient, change: Any, code: str) -> None:
    answer = client.post("/api/v2/generate/async", json={**HORDE, **change})
    assert (answer.status_code, answer.json["rc"]) == (400, code)


def test_the_horde_takes_usual_spellings(client: FlaskClient, queue: Queue) -> None:
    more = {"steps": "4", "cfg_scale": "3.5", "n": 1.0, "karras": "false", "sampler_name": "", "hires_fix": "false"}
    more |= {"seed": "", "control_type": "", "clip_skip": 1.0, "tiling": 0, "post_processing": None}
    answer = horde(client, **more)
    assert answer.status_code == 202, answer.text
    recipe = queue.job_store.jobs.recent(1)[0].recipe
    assert (recipe.steps, recipe.guidance_scale, recipe.schedule) == (4, 3.5, "native")


@pytest.mark.parametrize("weight", [10**400, float(10**300), "much", True, None, [1]])
def test_a_weight_that_is_no_weight_is_refused(client: FlaskClient, weight: object) -> None:
    answer = horde(client, loras=[{"name": "ink", "model": weight}])
    assert (answer.status_code, answer.json["rc"]) == (400, "BadRequest") and "params.loras" in answer.json["message"]


# All


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img", "/api/v2/generate/async"]
)
@pytest.mark.parametrize(
    "data",
    [
        b'{"prompt": "a fox", "seed": NaN}',
        b'{"prompt": "a fox", "seed": -Infinity}',
        b'{"prompt": "a fox", "seed": ' + b"9" * 5000 + b"}",
        b"[" * 50_000,
        b'{"prompt":' * 40 + b"1" + b"}" * 40,
        b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'["a fox"]',
        b'"a fox"',
        b"",
        b"\xff\xfe{",
    ],
)
def test_a_body_that_is_no_usable_json_object_is_a_bad_request(client: FlaskClient, path: str, data: bytes) -> None:
    assert client.post(path, data=data, content_type="application/json").status_code == 400


@pytest.mark.parametrize("text", ["", None, 7, "https://example.org/fox.png", "data:,fox", "data:image/png;base64"])
def test_a_text_that_is_no_picture_in_base64_is_refused(text: object) -> None:
    with pytest.raises(BadRecipe, match="base64"):
        decode_base64("image", text)


def test_a_picture_may_come_as_a_data_url_with_parameters() -> None:
    assert decode_base64("image", DATA_URL.decode()) == png()


def test_a_picture_may_come_in_base64_for_addresses_and_without_padding() -> None:
    for size in range(90, 95):
        data = bytes(range(160, 160 + size))
        assert decode_base64("image", base64.urlsafe_b64encode(data).decode().rstrip("=")) == data


def test_query_parameters_with_thousands_of_digits_are_refused(client: FlaskClient) -> None:
    for limit in ("0" * 8 + "1" + "9" * 5000, "9" * 5000, "000000001999"):
        assert client.get(f"/api/v1/pictures?limit={limit}").status_code == 422
