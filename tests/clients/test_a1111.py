"""AUTOMATIC1111's API on a real port, as webuiapi (unmodified), Open WebUI and SillyTavern use it."""

import base64
import io
import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
import webuiapi
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import web
from jobs import events
from jobs.api_keys import ApiKeys
from jobs.models import Catalogue
from jobs.users import UserRecords
from memo import BadSetup, read_png
from tests.real import ROOT, serving, wait_for
from web.a1111 import generation_request
from web.config import WebConfig


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 4}
INFO = (
    "prompt all_prompts negative_prompt all_negative_prompts seed all_seeds subseed all_subseeds subseed_strength "
    "width height sampler_name cfg_scale steps batch_size restore_faces face_restoration_model sd_model_name "
    "sd_model_hash sd_vae_name sd_vae_hash seed_resize_from_w seed_resize_from_h denoising_strength "
    "extra_generation_params index_of_first_image infotexts styles job_timestamp clip_skip "
    "is_using_inpainting_conditioning version"
)

SMALL = base64.b64encode(encode(Image.new("RGB", (30, 20)), "PNG")).decode()


@pytest.fixture
def url(app, monkeypatch):
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)
    with serving(app) as url:
        yield url


@pytest.fixture
def api(url):
    client = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1")
    yield client
    client.session.close()


@pytest.fixture
def http(url):
    with httpx.Client(base_url=f"{url}/sdapi/v1", timeout=30) as client:
        yield client


@pytest.fixture
def other(url):
    """Another user: without keys, the server tells browsers apart by their visitor cookie."""
    with httpx.Client(base_url=f"{url}/sdapi/v1", timeout=30, headers={"Cookie": "visitor=somebody"}) as client:
        yield client


@pytest.fixture
def painting(runner):
    """A worker without Celery, which polls the queue."""
    stopped = threading.Event()

    def paint():
        while not stopped.wait(0.01):
            runner.handle_message("stickers")
            runner.handle_message("slow")

    thread = threading.Thread(target=paint, daemon=True)
    thread.start()
    yield runner
    stopped.set()
    thread.join()


@pytest.fixture
def in_thread(painter):
    """Call a function in a thread; returns its future. At the end of the test, the painter goes on."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit
        painter.go_on.set()


def picture_of(image):
    """The picture that a PNG in base64 describes."""
    return read_png(base64.b64decode(image))


def check_refused(answer, field, status=422):
    """Check that a field was refused in the dialect's format; returns the detail."""
    assert answer.status_code == status, answer.text
    assert {"error", "detail", "body", "errors"} <= set(answer.json())
    assert (answer.json()["field"], bool(answer.json()["fix"])) == (field, True)
    return answer.json()["detail"]


# webuiapi


def test_webuiapi_works_with_its_defaults(api, working, painter):
    result = api.txt2img(**FOX)
    assert result.image.size == (64, 64) and painter.painted == [FOX["prompt"]]
    assert set(INFO.split()) == set(result.info)
    assert (result.info["sampler_name"], result.info["cfg_scale"], result.info["steps"]) == ("Euler a", 7.0, 4)
    assert result.parameters["prompt"] == FOX["prompt"] and result.parameters["n_iter"] == 1


def test_the_pictures_of_a_batch_differ_and_name_their_seeds(api, painting):
    result = api.txt2img(**FOX, seed=7, batch_size=2, n_iter=2, negative_prompt="blurry")
    recipes = [picture_of(image).recipe for image in result.json["images"]]
    assert [recipe.seed for recipe in recipes] == [7, 8, 9, 10] == result.info["all_seeds"]
    assert {recipe.negative_prompt for recipe in recipes} == {"blurry"}
    assert "Seed: 10, Size: 64x64" in result.info["infotexts"][3]


def test_a_negative_prompt_without_guidance_is_ignored_as_in_automatic1111(api, painting):
    result = api.txt2img(**{**FOX, "cfg_scale": 1}, seed=7, negative_prompt="blurry")
    assert picture_of(result.json["images"][0]).recipe.negative_prompt == result.info["negative_prompt"] == ""


def test_more_pictures_than_one_native_request_allows_are_all_different(http, painting, painter):
    foxes = {**FOX, "batch_size": 5, "n_iter": 2}
    headers = {"X-Memo-Policy": "auto"}
    first, second = (http.post("txt2img", json=foxes, headers=headers).json()["images"] for _ in range(2))
    assert len(set(first)) == 10 and set(first) == set(second) and len(painter.painted) == 10


def test_seeds_count_up_across_native_requests(http, painting):
    info = json.loads(
        http.post("txt2img", json={**FOX, "seed": 1, "n_iter": 10, "send_images": False}).json()["info"]
    )
    assert info["all_seeds"] == list(range(1, 11))


def test_a_remembered_picture_is_described_with_its_own_settings(http, painting, painter):
    http.post("txt2img", json=FOX)
    answer = http.post("txt2img", json={**FOX, "prompt": "A red fox in snow"}).json()
    info = json.loads(answer["info"])
    assert len(painter.painted) == 1 and info["extra_generation_params"]["Memo origins"] == ["memory"]
    assert info["prompt"] == "A red fox in snow" and info["infotexts"][0].startswith("a red fox in the snow\n")


@pytest.mark.parametrize(
    ("extra", "headers"),
    [
        ({"alwayson_scripts": {"memoaized": {"args": [{"memo": "off"}]}}}, {}),
        ({}, {"X-Memo-Policy": "off"}),
    ],
)
def test_the_memory_policy_can_be_a_script_argument_or_a_header(http, painting, painter, extra, headers):
    for _ in range(2):
        http.post("txt2img", json={**FOX, **extra}, headers=headers)
    assert len(painter.painted) == 2
    assert "X-Memo-Policy" in check_refused(
        http.post("txt2img", json=FOX, headers={"X-Memo-Policy": "always"}), "X-Memo-Policy"
    )


def test_img2img_starts_from_the_picture(api, painting, painter):
    init_image = Image.new("RGB", (64, 64), "#0a0")
    result = api.img2img(images=[init_image], denoising_strength=0.4, **FOX)
    assert painter.init_images[0].getpixel((3, 3)) == (0, 0xAA, 0)
    recipe = picture_of(result.json["images"][0]).recipe
    assert recipe.init_image and recipe.strength == 0.4 == result.info["denoising_strength"]
    assert "Denoising strength: 0.4" in result.info["infotexts"][0]


@pytest.mark.parametrize(("mode", "edge"), [(0, (0xFF, 0, 0)), (1, (0, 0, 0xFF))])
def test_an_initial_image_of_another_shape_is_stretched_or_cropped(api, painting, painter, mode, edge):
    """A1111's resize_mode: the red ends remain after stretching, and are gone after cropping."""
    sent = Image.new("RGB", (192, 64), "#f00")
    sent.paste("#00f", (60, 0, 132, 64))
    api.img2img(images=[sent], resize_mode=mode, **FOX)
    image = painter.init_images[0]
    middle = image.crop(((image.width - image.height) // 2, 0, (image.width + image.height) // 2, image.height))
    assert middle.getpixel((2, 20)) == edge


def test_progress_is_that_of_the_users_own_request(api, other, queue, painting, painter, in_thread):
    painter.go_on.clear()
    answer = in_thread(api.txt2img, **FOX, n_iter=2)
    state = wait_for(lambda: (seen := api.get_progress()["state"])["job"] and seen["job_count"] == 2 and seen)
    assert (state["job_no"], state["sampling_steps"], state["sampling_step"]) == (0, 4, 0)
    idle = other.get("progress").json()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0.0, 0, None)
    painter.go_on.set()
    assert len(answer.result().images) == 2
    done = api.get_progress()
    assert (done["progress"], done["state"]["job_count"], done["eta_relative"]) == (0.0, 0, 0.0)


def test_progress_includes_a_preview(http, queue, in_thread):
    small = encode(Image.new("RGB", (16, 16), "#00f"), "WEBP")
    answer = in_thread(http.post, "txt2img", json=FOX)
    claim = wait_for(lambda: queue.job_store.claims.claim("stickers"))
    queue.job_store.progress.report_step(claim, 1, 9.0, base64.b64encode(small).decode())
    seen = wait_for(lambda: (result := http.get("progress").json())["current_image"] and result)
    assert (seen["progress"], seen["eta_relative"], seen["state"]["sampling_step"]) == (0.25, 9.0, 1)
    assert Image.open(io.BytesIO(base64.b64decode(seen["current_image"]))).format == "PNG"
    assert http.get("progress?skip_current_image=true").json()["current_image"] is None
    http.post("interrupt")
    assert answer.result().json()["images"] == []


def test_interrupt_delivers_finished_pictures_and_cancels_the_rest(api, queue, painting, painter, in_thread):
    api.txt2img(prompt="two cats", width=64, height=64, steps=4)
    api.session.headers["X-Memo-Policy"] = "auto"
    painter.go_on.clear()
    answer = in_thread(api.txt2img, **{**FOX, "prompt": "two cats"}, n_iter=3)
    wait_for(lambda: api.get_progress()["state"]["job"])
    assert api.interrupt() == {}
    result = answer.result()
    assert len(result.images) == 1 == len(result.info["all_seeds"])
    painter.go_on.set()
    wait_for(lambda: not painting.claims)
    assert painter.painted == ["two cats"] and api.get_progress()["state"]["job_count"] == 0


def test_interrupt_and_skip_do_not_affect_other_users(http, other, painting, painter, in_thread):
    painter.go_on.clear()
    answer = in_thread(http.post, "txt2img", json=FOX)
    wait_for(lambda: http.get("progress").json()["state"]["job"])
    assert (other.post("interrupt").status_code, other.post("skip").json()) == (200, None)
    painter.go_on.set()
    assert len(answer.result().json()["images"]) == 1


def test_skip_cancels_only_the_running_picture(http, painting, painter, in_thread):
    painter.go_on.clear()
    answer = in_thread(http.post, "txt2img", json={**FOX, "n_iter": 2})
    first = wait_for(lambda: http.get("progress").json()["state"]["job"])
    http.post("skip")
    wait_for(lambda: http.get("progress").json()["state"]["job_no"] == 1)
    painter.go_on.set()
    assert len(answer.result().json()["images"]) == 1 and first


def test_an_interrupt_reaches_a_request_that_is_still_creating_its_jobs(http, queue, monkeypatch):
    record = UserRecords.record_jobs

    def interrupted(self, user, task, jobs, *, whole):
        record(self, user, task, jobs, whole=whole)
        http.post("interrupt")

    monkeypatch.setattr(UserRecords, "record_jobs", interrupted)
    assert http.post("txt2img", json={**FOX, "n_iter": 20}).json()["images"] == []
    assert len(queue.job_store.jobs.recent(100)) == 8


def test_options_are_kept_per_user(api, other, painting):
    default, slow = api.util_get_model_names()[::-1]
    assert api.util_get_current_model() == default and default.startswith("stickers [")
    api.util_set_model("slow")
    assert api.util_get_current_model() == slow
    assert other.get("options").json()["sd_model_checkpoint"] == default
    assert api.txt2img(**FOX).info["sd_model_name"] == "slow"
    assert json.loads(other.post("txt2img", json=FOX).json()["info"])["sd_model_name"] == "stickers"


def test_a_requests_checkpoint_stays_selected_only_if_restoring_is_switched_off(http, painting):
    body = {**FOX, "override_settings": {"sd_model_checkpoint": "slow.safetensors"}}
    info = json.loads(http.post("txt2img", json=body).json()["info"])
    assert info["sd_model_name"] == "slow"
    assert http.get("options").json()["sd_model_checkpoint"].startswith("stickers")
    http.post("txt2img", json={**body, "override_settings_restore_afterwards": False})
    assert http.get("options").json()["sd_model_checkpoint"].startswith("slow")


def test_webuiapi_can_read_every_list(api):
    assert {sampler["name"] for sampler in api.get_samplers()} == {"DPM++ 2M", "DDIM", "Euler", "Euler a"}
    assert api.util_get_scheduler_names() == ["automatic", "karras", "normal", "uniform"]
    assert [mode["name"] for mode in api.get_upscalers() + api.get_latent_upscale_modes()] == ["None", "Latent"]
    assert set(api.get_sd_models()[0]) == {"title", "model_name", "hash", "sha256", "filename", "config"}
    lists = (api.get_sd_vae, api.get_loras, api.get_hypernetworks, api.get_face_restorers, api.get_prompt_styles)
    assert [read() for read in (*lists, api.get_realesrgan_models)] == [[]] * 6
    assert api.get_memory() and api.get_cmd_flags() == {} and not api.has_controlnet
    assert api.refresh_checkpoints() is None and api.get_embeddings()["loaded"] == {}


def test_png_info_reads_the_settings_of_a_painted_picture(api, painting):
    image = api.txt2img(**FOX, seed=7, negative_prompt="blurry").image
    result = api.png_info(image)
    assert result.info.startswith("a red fox in the snow\nNegative prompt: blurry\nSteps: 4, Sampler: Euler a")
    settings = result.parameters
    assert (settings["Prompt"], settings["Negative prompt"]) == (FOX["prompt"], "blurry")
    assert (settings["Seed"], settings["Size-1"], settings["Sampler"]) == ("7", "64", "Euler a")
    assert api.png_info(Image.new("RGB", (8, 8))).info == ""


@pytest.mark.parametrize("coding", ["utf-16-be", "utf-16-le", "utf-8"])
def test_png_info_reads_the_comment_that_another_program_wrote_into_a_jpeg(http, coding):
    settings = "un renard roux, naïve\nSteps: 4, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 64x64"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + settings.encode(coding)
    data = encode(Image.new("RGB", (8, 8)), "JPEG", exif=exif)
    answer = http.post("png-info", json={"image": base64.b64encode(data).decode()}).json()
    assert answer["info"] == settings and answer["parameters"]["Seed"] == "3"


def test_png_info_refuses_parameters_that_unpack_to_megabytes(http):
    info = PngInfo()
    info.add_text("parameters", "a " * 10**6, zip=True)
    data = encode(Image.new("RGB", (8, 8)), "PNG", pnginfo=info)
    answer = http.post("png-info", json={"image": base64.b64encode(data).decode()})
    assert answer.status_code == 422 and "its parameters are longer than 1048576 bytes" in answer.text


def test_an_error_names_the_field_and_the_fix(api, http, painting):
    with pytest.raises(RuntimeError, match="sampler_name"):
        api.txt2img(**FOX, sampler_name="DPM++ 2M SDE Karras")
    assert "choose one of DPM++ 2M" in check_refused(
        http.post("txt2img", json={**FOX, "sampler_index": "PLMS"}), "sampler_index"
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"width": 1000, "height": 1000}, "width"),
        ({"width": 64, "height": 128}, "height"),
        ({"cfg_scale": 99}, "cfg_scale"),
        ({"steps": 0}, "steps"),
        ({"seed": -2}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 8, "n_iter": 9}, "n_iter"),
        ({"scheduler": "Align Your Steps"}, "scheduler"),
        ({"sampler_name": "LCM"}, "sampler_name"),
        ({"sampler_name": "DDIM", "scheduler": "karras"}, "scheduler"),
        ({"restore_faces": True}, "restore_faces"),
        ({"tiling": True}, "tiling"),
        ({"styles": ["anime"]}, "styles"),
        ({"subseed_strength": 0.1}, "subseed_strength"),
        ({"script_name": "X/Y/Z plot"}, "script_name"),
        ({"refiner_checkpoint": "sdxl"}, "refiner_checkpoint"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True}]}}}, "alwayson_scripts.ControlNet"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True, True, {}]}}}, "alwayson_scripts.ADetailer"),
        ({"alwayson_scripts": "all"}, "alwayson_scripts"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "override_settings.CLIP_stop_at_last_layers"),
        ({"override_settings": {"sd_model_checkpoint": "sdxl"}}, "sd_model_checkpoint"),
        ({"prompt": "fox <lora:one:1> <lora:two:1>"}, "prompt"),
        ({"prompt": "fox <lora:one:much>"}, "prompt"),
        ({"prompt": "fox <lora:one:0.8>"}, "prompt"),
        ({"prompt": "fox <hypernet:one:1>"}, "prompt"),
        ({"enable_hr": True, "hr_scale": 1.9}, "hr_scale"),
        ({"enable_hr": True, "hr_upscaler": "R-ESRGAN 4x+"}, "hr_upscaler"),
        ({"enable_hr": True, "hr_scale": "large"}, "hr_scale"),
        ({"enable_hr": True, "hr_second_pass_steps": 10}, "hr_second_pass_steps"),
        ({"force_task_id": "a\u0000"}, "force_task_id"),
    ],
)
def test_unsupported_fields_are_refused_by_name(http, queue, painting, body, field):
    check_refused(http.post("txt2img", json={**FOX, **body}), field)
    assert queue.job_store.jobs.recent(9) == [] and http.get("progress").json()["state"]["job_count"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "init_images"),
        ({"init_images": 7}, "init_images"),
        ({"init_images": ["fox"]}, "init_images"),
        ({"init_images": ["https://example.org/fox.png"]}, "init_images"),
        ({"init_images": ["aGVsbG8="]}, "init_images"),
        ({"init_images": ["", ""]}, "init_images"),
        ({"init_images": [SMALL], "width": 10**400}, "width"),
        ({"mask": "aGVsbG8="}, "mask"),
    ],
)
def test_an_unusable_initial_image_is_refused(http, body, field):
    check_refused(http.post("img2img", json={**FOX, **body}), field)


def test_all_errors_have_the_dialects_format(http, job_store):
    assert http.get("nothing").json().keys() == {"error", "detail", "body", "errors"}
    assert http.post("txt2img", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert http.post("interrogate", json={}).status_code == 501
    assert http.get("txt2img").status_code == 405
    check_refused(http.post("options", json={"CLIP_stop_at_last_layers": 2}), "CLIP_stop_at_last_layers")
    check_refused(http.post("options", json={"sd_model_checkpoint": "sdxl"}), "sd_model_checkpoint")


def test_a_failed_painting_is_an_error_with_its_reason(http, painting, painter):
    painter.fault = BadSetup("no canvas")
    answer = http.post("txt2img", json=FOX)
    assert answer.status_code == 500 and "no canvas" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("names", "sampler", "schedule"),
    [
        ({}, "dpm++2m", "native"),
        ({"sampler_name": "Automatic"}, "dpm++2m", "native"),
        ({"sampler_name": "DPM++ 2M Karras"}, "dpm++2m", "karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, "dpm++2m", "karras"),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "automatic"}, "dpm++2m", "karras"),
        ({"sampler_index": "Euler", "scheduler": "normal"}, "euler", "native"),
        ({"sampler_name": "k_euler_a", "sampler_index": "DDIM"}, "euler-a", "native"),
        ({"sampler_name": "DDIM"}, "ddim", "native"),
    ],
)
def test_samplers_and_schedulers_have_the_dialects_names(http, painting, names, sampler, schedule):
    recipe = picture_of(http.post("txt2img", json={**FOX, **names}).json()["images"][0]).recipe
    assert (recipe.sampler, recipe.schedule) == (sampler, schedule)


@pytest.mark.parametrize(
    ("prompt", "words", "adapter"),
    [
        ("a fox <lora:ink:0.8>", "a fox ", "ink:0.8"),
        ("<lora:ink> a fox", " a fox", "ink:1"),
        ("<lyco:ink:-0.50>a fox <3", "a fox <3", "ink:-0.5"),
    ],
)
def test_a_lora_file_can_be_named_in_the_prompt(prompt, words, adapter):
    native = generation_request.read_prompts({"prompt": prompt})
    assert (native["prompt"], native["adapter"]) == (words, adapter)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"enable_hr": True}, (128, 128)),
        ({"enable_hr": True, "hr_scale": 4, "hr_upscaler": "None"}, (256, 256)),
        ({"enable_hr": True, "hr_resize_x": 256}, (256, 256)),
        ({"enable_hr": False, "hr_scale": 9}, (64, 64)),
    ],
)
def test_hires_fix_gives_the_larger_size(http, painting, options, size):
    image = http.post("txt2img", json={**FOX, **options}).json()["images"][0]
    assert Image.open(io.BytesIO(base64.b64decode(image))).size == size


def test_a_task_id_sent_twice_is_one_request(http, other, painting, painter, in_thread):
    painter.go_on.clear()
    body = {
        **FOX,
        "force_task_id": "task(fox)",
        "alwayson_scripts": {"memoaized": {"args": [{"memo": "off"}]}},
    }
    answers = [in_thread(http.post, "txt2img", json=body) for _ in range(2)]
    wait_for(lambda: http.get("progress").json()["state"]["job"])
    assert http.get("progress").json()["state"]["job_count"] == 1
    painter.go_on.set()
    first, second = (answer.result().json() for answer in answers)
    assert first["images"] == second["images"] == http.post("txt2img", json=body).json()["images"]
    assert len(painter.painted) == 1
    other.post("txt2img", json=body)
    assert len(painter.painted) == 2


def test_a_refused_task_can_be_sent_again(http, painting):
    body = {**FOX, "force_task_id": "task(fox)"}
    check_refused(http.post("txt2img", json={**body, "width": 65}), "width")
    assert len(http.post("txt2img", json=body).json()["images"]) == 1


def test_internal_progress_is_that_of_one_task(url, http, painting, painter, in_thread):
    def progress(task="task(fox)"):
        return httpx.post(f"{url}/internal/progress", json={"id_task": task, "id_live_preview": -1}).json()

    assert (progress()["active"], progress()["queued"], progress()["completed"]) == (False, False, False)
    painter.go_on.clear()
    first = in_thread(http.post, "txt2img", json={**FOX, "force_task_id": "task(fox)"})
    wait_for(lambda: progress()["active"])
    second = in_thread(http.post, "txt2img", json={**FOX, "prompt": "two cats", "force_task_id": "task(cats)"})
    wait_for(lambda: httpx.get(f"{url}/internal/pending-tasks").json() == {"size": 1, "tasks": ["task(cats)"]})
    assert progress("task(cats)")["queued"]
    painter.go_on.set()
    assert first.result().status_code == second.result().status_code == 200
    assert progress()["completed"] and not progress()["active"] and progress()["progress"] == 1.0


def test_an_api_key_is_the_password(memory, queue, tiny_models, painting):
    _, key = ApiKeys(queue.job_store.connection).add("ada")
    app = web.create_app(memory, queue, Catalogue(tiny_models), WebConfig(keys="required"), TESTING=True)
    with serving(app) as url:
        api = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", username="any", password=key)
        with closing(api.session):
            assert api.txt2img(**FOX).image.size == (64, 64)
            api.set_auth("any", "wrong")
            with pytest.raises(RuntimeError, match="401"):
                api.txt2img(**FOX)
        assert {"error", "detail", "body", "errors"} == set(httpx.get(f"{url}/sdapi/v1/options").json())


# Requests of other programs, copied from their source code


def test_open_webui_can_choose_a_model_and_create_a_picture(http, painting):
    """backend/open_webui/routers/images.py sends all options back, and an Authorization header even when empty."""
    headers = {"Authorization": ""}
    models = [(model["title"], model["model_name"]) for model in http.get("sd-models", headers=headers).json()]
    options = http.get("options", headers=headers).json()
    options["sd_model_checkpoint"] = next(title for title, name in models if name == "slow")
    assert http.post("options", json=options, headers=headers).status_code == 200
    body = {
        "prompt": "a red fox",
        "batch_size": 2,
        "width": 256,
        "height": 256,
        "steps": 4,
        "negative_prompt": "blurry",
    }
    answer = http.post("txt2img", json=body, headers=headers).json()
    assert [picture_of(image).recipe.model for image in answer["images"]] == ["slow", "slow"]
    assert isinstance(answer["info"], str) and answer["parameters"]["batch_size"] == 2


def sillytavern(**settings):
    """The body of generateAutoImage in public/scripts/extensions/stable-diffusion/index.js, with its defaults."""
    return {
        "url": "http://localhost:8000",
        "auth": "me:secret",
        "prompt": "best quality, absurdres, aesthetic, a red fox in the snow",
        "negative_prompt": "lowres, bad anatomy, bad hands, text, error, cropped, worst quality, blurry",
        "sampler_name": "DDIM",
        "scheduler": "normal",
        "steps": 20,
        "cfg_scale": 7,
        "width": 256,
        "height": 256,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 2,
        "hr_additional_modules": [],
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
        **settings,
    }


def test_sillytavern_works_with_its_defaults(http, painting):
    answer = http.post("txt2img", json=sillytavern()).json()
    recipe = picture_of(answer["images"][0]).recipe
    assert (recipe.sampler, recipe.steps, recipe.guidance_scale, recipe.width) == ("ddim", 20, 7.0, 256)
    assert "secret" not in json.dumps(answer)


def test_sillytavern_can_fill_its_menus_and_choose_a_model(http):
    """The requests of src/endpoints/stable-diffusion.js."""
    upscalers = [entry["name"] for entry in http.get("upscalers").json()]
    upscalers[1:1] = [entry["name"] for entry in http.get("latent-upscale-modes").json()]
    assert upscalers == ["None", "Latent"]
    assert [http.get(path).json() for path in ("sd-vae", "sd-modules")] == [[], []]
    assert "DDIM" in [entry["name"] for entry in http.get("samplers").json()]
    assert "normal" in [entry["name"] for entry in http.get("schedulers").json()]
    titles = [entry["title"] for entry in http.get("sd-models").json()]
    assert "forge_preset" not in http.get("options").json()
    assert http.post("options", json={"sd_model_checkpoint": titles[1]}).is_success
    idle = http.get("progress").json()
    assert (idle["progress"], idle["state"]["job_count"]) == (0.0, 0)
    assert http.get("options").json()["sd_model_checkpoint"] == titles[1]


def test_sillytavern_interrupts_a_request_when_its_page_is_closed(http, queue, painting, painter, in_thread):
    painter.go_on.clear()
    in_thread(http.post, "txt2img", json=sillytavern())
    wait_for(lambda: http.get("progress").json()["state"]["job"])
    assert http.post("interrupt").is_success
    wait_for(lambda: queue.job_store.jobs.recent(1)[0].state == "cancelled")


def test_the_examples_of_the_documentation_run(url, painting, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "clients.md").read_text().partition("## AUTOMATIC1111\n")[2].partition("\n## ")[0]
    [python] = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    names: dict[str, object] = {}
    exec(python.replace("port=8000", f"port={url.rpartition(':')[2]}"), names)
    names["api"].session.close()
    [shell] = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    subprocess.run(["bash", "-c", shell.replace("localhost:8000", url)], check=True)
    output = capfd.readouterr().out
    assert "['painted']" in output and '"images":["' in output.replace(" ", "")
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
