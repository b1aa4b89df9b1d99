"""The OpenAI Images API on a real port, used by the unmodified openai package."""

import base64
import io
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import openai
import pytest
from PIL import Image

import web
from jobs import events
from jobs.api_keys import ApiKeys
from jobs.job import State
from jobs.models import Catalogue
from memo import BadSetup, read_png
from memo.picture import parameters
from tests.real import ROOT, finished, serving, wait_for
from web import links, run_once
from web.config import WebConfig
from web.limits.rates import storage_uri
from web.openai import retries
from worker import paint
from worker.painters.port import Progress

FOX = {"prompt": "a red fox in the snow", "size": "64x64"}


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch):
    """Let subscriptions to Redis end within 0.05 s instead of a second."""
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)


@pytest.fixture
def url(app):
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def sdk():
    with openai.OpenAI(base_url="http://127.0.0.1:1/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def ai(sdk, url):
    return sdk.with_options(base_url=f"{url}/v1")


@pytest.fixture
def painting(runner, painter):
    """A worker without Celery, which polls the queue."""
    stopped = threading.Event()

    def paint():
        while not stopped.wait(0.01):
            runner.handle_message("stickers")

    thread = threading.Thread(target=paint, daemon=True)
    thread.start()
    yield runner
    painter.go_on.set()
    stopped.set()
    thread.join()


def open_image(datum):
    return Image.open(io.BytesIO(base64.b64decode(datum.b64_json)))


def keys(answer):
    return {picture["key"] for picture in answer.memo["pictures"]}


def memo(policy):
    return {"memo": {"policy": policy}}


@pytest.mark.parametrize("count", [1, 4])
def test_n_pictures_are_painted(ai, working, count):
    answer = ai.images.generate(**FOX, n=count, response_format="b64_json")
    assert len(answer.data) == count == len(keys(answer))
    assert [open_image(datum).size for datum in answer.data] == [(64, 64)] * count
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert {read_png(base64.b64decode(datum.b64_json)).key for datum in answer.data} == keys(answer)
    assert abs(answer.created - time.time()) < 60 and answer.usage.total_tokens == 0


def test_ten_pictures_are_all_different_and_their_seeds_count_up(ai, painting):
    answer = ai.images.generate(**FOX, n=10, response_format="b64_json")
    assert len(keys(answer)) == 10
    answer = ai.images.generate(**FOX, n=10, extra_body={"seed": 5})
    assert [picture["seed"] for picture in answer.memo["pictures"]] == list(range(5, 15))


def test_a_link_works_with_and_without_a_key(ai, url, painting):
    answer = ai.images.generate(**FOX)
    link = answer.data[0].url
    assert link.startswith(f"{url}/v1/images/files/") and answer.data[0].b64_json is None
    for headers in ({}, {"Authorization": "Bearer any"}):
        file = httpx.get(link, headers=headers)
        assert file.headers["content-type"] == "image/png" and read_png(file.content).key in keys(answer)


def test_a_link_expires_after_an_hour_and_cannot_be_forged(ai, client, monkeypatch, painting):
    link = ai.images.generate(**FOX).data[0].url
    monkeypatch.setattr(links, "LINK_SECONDS", -1)
    assert httpx.get(link).status_code == 410
    monkeypatch.undo()
    assert httpx.get(link).status_code == 200
    forged = httpx.get(link[:-2] + ("aa" if link[-2:] != "aa" else "bb"))
    assert forged.status_code == 404 and forged.json()["error"]["code"] == "not_found"


def test_the_link_of_a_deleted_picture_stops_working(ai, client, painting):
    answer = ai.images.generate(**FOX)
    [key] = keys(answer)
    assert client.delete(f"/api/v1/pictures/{key}").status_code == 204
    assert httpx.get(answer.data[0].url).status_code == 404


def test_the_response_says_where_each_picture_came_from(ai, memory, painting):
    first = ai.images.with_raw_response.generate(**FOX)
    [painted] = first.parse().memo["pictures"]
    assert (painted["origin"], painted["score"], first.headers["x-memo-origin"]) == ("painted", None, "painted")
    wait_for(lambda: memory.index.get(painted["key"]))
    second = ai.images.with_raw_response.generate(prompt="A red fox in snow", size="64x64")
    [picture] = second.parse().memo["pictures"]
    assert (picture["origin"], picture["how"], picture["key"]) == ("memory", "same meaning", painted["key"])
    assert picture["remembered_prompt"] == second.parse().data[0].revised_prompt == FOX["prompt"]
    assert picture["reason"] and picture["seconds_saved"] > 0
    assert second.headers["x-memo-score"] == f"{picture['score']:.4f}"
    assert float(second.headers["x-memo-seconds-saved"]) == picture["seconds_saved"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_the_memory_policy_is_followed(ai, memory, painting):
    [key] = keys(ai.images.generate(**FOX))
    wait_for(lambda: memory.index.get(key))
    origins = [ai.images.generate(**FOX, extra_body=memo(policy)).memo["pictures"][0] for policy in ("exact", "off")]
    assert [picture["origin"] for picture in origins] == ["memory", "painted"]
    assert origins[0]["key"] == key != origins[1]["key"]


def test_extensions_of_other_servers_are_supported(ai, queue, painting):
    extensions = {"negative_prompt": "trees", "num_inference_steps": 4, "guidance_scale": 1.5, "seed": 7}
    answer = ai.images.generate(**FOX, user="ada", extra_body=extensions)
    job = queue.job_store.jobs.find(answer.memo["pictures"][0]["job"])
    recipe = job.recipe
    assert job.user == "ada"
    assert (recipe.negative_prompt, recipe.steps, recipe.guidance_scale, recipe.seed) == ("trees", 4, 1.5, 7)


@pytest.mark.parametrize(("name", "field"), [("dall-e-3", "url"), ("gpt-image-1", "b64_json"), ("stickers", "url")])
def test_openais_model_names_stand_for_the_default_model(ai, painting, name, field):
    answer = ai.images.generate(**FOX, model=name)
    assert getattr(answer.data[0], field) and answer.memo["model"] == "stickers"
    assert bool(answer.memo["notes"]) == (name != "stickers")
    assert ai.models.retrieve(name).id == "stickers"


def test_models_are_listed(ai):
    assert [model.id for model in ai.models.list()] == ["stickers", "slow"]
    assert ai.models.retrieve("slow").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        ai.models.retrieve("sdxl-9")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_an_unknown_model_is_a_404(ai):
    with pytest.raises(openai.NotFoundError) as caught:
        ai.images.generate(**FOX, model="sdxl-9")
    assert caught.value.code == "model_not_found" and "stickers, slow" in caught.value.message


@pytest.mark.parametrize(("kind", "mode"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_other_formats_carry_the_recipe_too(ai, queue, painting, kind, mode):
    answer = ai.images.generate(**FOX, response_format="b64_json", output_format=kind)
    image = open_image(answer.data[0])
    assert (image.format, answer.output_format) == (mode, kind)
    text = parameters(queue.job_store.jobs.find(answer.memo["pictures"][0]["job"]).picture.recipe)
    if kind == "png":
        assert image.text["parameters"] == text
    else:
        assert image.getexif().get_ifd(0x8769)[0x9286] == b"UNICODE\0" + text.encode("utf-16-be")


def test_a_lower_quality_makes_a_smaller_file_also_by_link(ai, painter, monkeypatch, painting):
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    monkeypatch.setattr(type(painter), "__call__", lambda *_: noise)
    sizes = []
    for quality in (100, 5):
        file = httpx.get(ai.images.generate(**FOX, output_format="webp", output_compression=quality).data[0].url)
        assert file.headers["content-type"] == "image/webp"
        sizes.append(len(file.content))
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize(
    ("size", "painted"), [("1024x1024", "256x256"), ("100x100", "128x128"), ("128x128", "128x128")]
)
def test_a_square_that_the_model_does_not_paint_is_scaled_with_a_note(ai, painting, size, painted):
    answer = ai.images.generate(prompt="fox", size=size, response_format="b64_json")
    image = open_image(answer.data[0])
    assert f"{image.width}x{image.height}" == answer.size == size
    assert answer.memo["pictures"][0]["painted_size"] == painted
    assert bool(answer.memo["notes"]) == (size != painted)
    assert "parameters" in image.text


def test_open_webui_works(url, painting):
    body = {"model": "gpt-image-1", **FOX, "n": 1, "response_format": "b64_json"}
    answer = httpx.post(f"{url}/v1/images/generations", json=body, headers={"Authorization": "Bearer any"}).json()
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG")


def test_the_examples_of_the_documentation_run(url, painting, capfd):
    text = (ROOT / "docs" / "clients.md").read_text().partition("## OpenAI\n")[2].partition("\n## ")[0]
    [python] = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    exec(python.replace("http://localhost:8000", url), {})
    [shell] = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    subprocess.run(["bash", "-c", shell.replace("localhost:8000", url)], check=True)
    output = capfd.readouterr().out
    assert f"{url}/v1/images/files/" in output and output.count('"b64_json"') == 2


def test_the_default_size_is_the_models_own(ai, painting):
    for options in ({}, {"size": "auto"}):
        assert ai.images.generate(prompt="fox", **options).size == "256x256"


BAD = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "a" * 3000}, "prompt"),
    ({"n": 11}, "n"),
    ({"n": 0}, "n"),
    ({"size": "1792x1024"}, "size"),
    ({"size": "8192x8192"}, "size"),
    ({"size": "large"}, "size"),
    ({"background": "transparent"}, "background"),
    ({"quality": "ultra"}, "quality"),
    ({"response_format": "file"}, "response_format"),
    ({"output_format": "gif"}, "output_format"),
    ({"output_compression": 50}, "output_compression"),
    ({"output_format": "jpeg", "output_compression": 101}, "output_compression"),
    ({"stream": True, "partial_images": 4}, "partial_images"),
    ({"extra_body": {"num_inference_steps": 0}}, "num_inference_steps"),
    ({"extra_body": {"seed": -1}}, "seed"),
    ({"extra_body": {"seed": "x"}, "n": 10}, "seed"),
    ({"extra_body": {"memo": "off"}}, "memo.policy"),
    ({"extra_body": {"memo": {"policy": "always"}}}, "memo.policy"),
    ({"extra_body": {"strength": 0.5}}, "strength"),
    ({"extra_body": {"colour": "red"}}, "colour"),
    ({"extra_body": {"stream": "perhaps"}}, "stream"),
    ({"user": "x" * 129}, "user"),
]


@pytest.mark.parametrize(("bad", "param"), BAD, ids=[str(list(bad)) for bad, _ in BAD])
def test_a_bad_request_is_a_bad_request_error_in_the_client(ai, client, bad, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ai.images.generate(**{**FOX, **bad})
    error = caught.value
    assert (error.param, error.type, error.code) == (param, "invalid_request_error", "invalid_value")
    assert error.request_id.startswith("req_") and param in error.message
    assert client.get("/api/v1/jobs").json["jobs"] == []


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("POST", "/v1/images/generations", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", "/v1/images/generations", {"content": b"fox"}, 415),
        ("POST", "/v1/images/edits", {"json": FOX}, 415),
        ("GET", "/v1/images/generations", {}, 405),
        ("GET", "/v1/nothing", {"headers": {"Accept": "text/html"}}, 404),
        ("GET", "/v1/images/files/made.up", {}, 404),
    ],
)
def test_every_error_under_v1_is_an_openai_error(url, method, path, sent, status):
    answer = httpx.request(method, url + path, **sent)
    assert answer.status_code == status and answer.headers["x-request-id"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.fixture
def previewing(painter, monkeypatch):
    """Let the painter make a preview at every step, and let each be sent."""
    monkeypatch.setattr(paint, "PREVIEW_SECONDS", 0)
    paint_quickly = type(painter).__call__
    steps = count(1)

    def slowly(self, recipe, on_step, *rest):
        def report(progress):
            on_step(Progress(progress.step, preview=lambda: Image.new("RGB", (8, 8), (next(steps) % 256, 0, 0))))
            time.sleep(0.03)

        return paint_quickly(self, recipe, report, *rest)

    monkeypatch.setattr(type(painter), "__call__", slowly)


def test_a_stream_has_partial_images_and_then_the_finished_one(ai, previewing, painting):
    options = {"stream": True, "partial_images": 2, "output_format": "webp", "size": "100x100"}
    *partial, last = ai.images.generate(prompt="fox", **options)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert last.type == "image_generation.completed" and last.usage.total_tokens == 0
    for event in (*partial, last):
        image = open_image(event)
        assert (image.format, image.size, event.output_format, event.size) == ("WEBP", (100, 100), "webp", "100x100")
    assert [event.memo["step"] >= 8 * part // 3 for event, part in zip(partial, (1, 2), strict=True)] == [True] * 2
    assert last.memo["origin"] == "painted"


def test_partial_images_are_not_enlarged(ai, previewing, painting):
    *partial, last = ai.images.generate(prompt="fox", stream=True, partial_images=1, size="512x512")
    assert open_image(last).size == (512, 512)
    assert partial and all(max(open_image(event).size) < 512 for event in partial)


def test_a_stream_of_several_pictures_completes_each(ai, painting):
    events = list(ai.images.generate(**FOX, n=3, stream=True))
    assert [event.type for event in events] == ["image_generation.completed"] * 3
    assert len({event.memo["key"] for event in events}) == 3


def test_a_stream_from_memory_has_no_partial_images(ai, memory, painting):
    [key] = keys(ai.images.generate(**FOX))
    wait_for(lambda: memory.index.get(key))
    [event] = ai.images.generate(**FOX, stream=True, partial_images=3, extra_body=memo("auto"))
    assert (event.memo["origin"], event.memo["key"]) == ("memory", key)


def test_a_failed_painting_is_reported_and_not_retried(ai, painter, painting):
    painter.fault = BadSetup("out of paint")
    with pytest.raises(openai.InternalServerError, match="out of paint") as caught:
        ai.with_options(max_retries=2).images.generate(**FOX)
    assert caught.value.code == "painting_failed"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    with pytest.raises(openai.APIError, match="out of paint"):
        list(ai.images.generate(**FOX, stream=True))


def running(queue):
    return [job for job in queue.job_store.jobs.recent(20) if job.state is State.RUNNING]


def test_a_cancelled_job_is_a_conflict(ai, queue, painter, painting):
    painter.go_on.clear()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ai.images.generate, **FOX)
        [job] = wait_for(lambda: running(queue))
        queue.job_store.submissions.cancel(job.id)
        with pytest.raises(openai.ConflictError) as caught:
            waiting.result()
    painter.go_on.set()
    assert caught.value.code == "cancelled"


def test_a_retry_after_a_timeout_gets_the_jobs_of_the_first_request(ai, queue, painter, painting):
    painter.go_on.clear()
    threading.Timer(0.8, painter.go_on.set).start()
    hasty = ai.with_options(max_retries=9, timeout=0.6)
    answer = hasty.images.with_raw_response.generate(**FOX, n=3, extra_body=memo("off"))
    assert answer.http_response.request.headers["x-stainless-retry-count"] != "0"
    assert len(keys(answer.parse())) == 3 == len(painter.painted) == len(queue.job_store.jobs.recent(100))


def test_a_retry_after_the_painting_has_ended_gets_its_pictures(url, queue, painting):
    body, pictures = {**FOX, **memo("off")}, []
    for number in ("0", "1", "0"):
        answer = httpx.post(f"{url}/v1/images/generations", json=body, headers={retries.RETRY_COUNT_HEADER: number})
        pictures += answer.json()["memo"]["pictures"]
    assert pictures[0] == pictures[1] and pictures[0]["key"] != pictures[2]["key"]


@pytest.fixture
def reservations(monkeypatch):
    """A list that gets an entry for each request, as soon as the request may create jobs or has found them."""
    reservations, reserve = [], run_once.reserve_or_reuse
    monkeypatch.setattr(
        run_once, "reserve_or_reuse", lambda *arguments: reservations.append(reserve(*arguments)) or reservations[-1]
    )
    return reservations


def test_different_requests_do_not_share_jobs(ai, painter, painting, reservations):
    painter.go_on.clear()
    with ThreadPoolExecutor() as pool:
        body = {**FOX, "extra_body": memo("off")}
        requests = [pool.submit(ai.images.generate, **body, user=user) for user in ("a", "a", "b")]
        wait_for(lambda: len(reservations) == 3 and len(paintings(painting)) == 2)
        painter.go_on.set()
        first, second, other = (keys(waiting.result()) for waiting in requests)
    assert first == second != other


def paintings(runner):
    """The paintings of all jobs."""
    return {
        job.painting
        for job in map(runner.job_store.jobs.find, runner.job_store.connection.redis.zrange("memoaized:jobs", 0, -1))
        if job
    }


def test_a_painting_goes_on_when_the_client_disconnects(url, queue, painter, painting):
    painter.go_on.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/images/generations", json=FOX, timeout=0.5)
    with httpx.stream("POST", f"{url}/v1/images/generations", json={**FOX, "prompt": "owl", "stream": True}):
        pass
    painter.go_on.set()
    assert {finished(queue, job.id).state for job in queue.job_store.jobs.recent(5)} == {State.DONE}


def test_a_client_that_waits_too_long_is_told_to_retry(ai, painter, monkeypatch, painting):
    painter.go_on.clear()
    with monkeypatch.context() as hurry, pytest.raises(openai.InternalServerError) as caught:
        hurry.setattr("web.openai.routes.WAIT_SECONDS", 0.1)
        ai.images.generate(**FOX)
    painter.go_on.set()
    headers = caught.value.response.headers
    assert caught.value.status_code == 503 and caught.value.code in ("still_painting", "still_waiting")
    assert (headers["retry-after"], headers["x-should-retry"]) == ("1", "true")
    assert ai.images.generate(**FOX).data


def test_without_redis_the_error_is_503_with_retry_after(url, queue, monkeypatch):
    monkeypatch.setattr(
        queue.job_store.connection.redis,
        "connection_pool",
        type(queue.job_store.connection.redis.connection_pool)(port=1),
    )
    answer = httpx.post(f"{url}/v1/images/generations", json=FOX)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["type"] == "server_error"


def png(colour="red", side=64):
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def test_an_edit_starts_from_the_picture(ai, queue, painting):
    extensions = {"strength": 0.4, "seed": 3, "memo": {"policy": "off"}}
    options = {"size": "64x64", "n": 2, "response_format": "b64_json", "extra_body": extensions}
    answer = ai.images.edit(image=("red.png", png()), prompt="a red fox", **options)
    first, second = (queue.job_store.jobs.find(picture["job"]).recipe for picture in answer.memo["pictures"])
    assert (first.strength, first.seed, second.seed) == (0.4, 3, 4) and first.init_image == second.init_image != ""
    assert len(keys(answer)) == 2 and open_image(answer.data[0]).size == (64, 64)


def test_an_edit_can_be_streamed(ai, previewing, painting):
    *partial, last = ai.images.edit(
        image=[png()], prompt="a red fox", size="64x64", stream=True, partial_images=1, input_fidelity="high"
    )
    assert [event.type for event in partial] == ["image_edit.partial_image"]
    assert last.type == "image_edit.completed" and last.memo["notes"] == ["input_fidelity has no effect here"]


def test_an_edit_of_a_large_picture_is_accepted(ai, painting):
    file = io.BytesIO()
    Image.effect_noise((900, 900), 80).save(file, "PNG")
    assert len(file.getvalue()) > 500_000
    assert ai.images.edit(image=file.getvalue(), prompt="a red fox", size="64x64").data


@pytest.mark.parametrize(
    ("bad", "param"),
    [
        ({"mask": png()}, "mask"),
        ({"image": [png(), png("blue")]}, "image"),
        ({"image": b"no picture"}, "image"),
        ({"extra_body": {"strength": 2}}, "strength"),
        ({"n": 11}, "n"),
        ({"extra_body": {"stream": "perhaps"}}, "stream"),
    ],
)
def test_a_bad_edit_is_a_bad_request_error(ai, bad, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ai.images.edit(**{"image": png(), "prompt": "a red fox", **bad})
    assert caught.value.param == param


@pytest.fixture
def guarded(memory, queue, tiny_models, redis_url, sdk):
    """Clients of a server that requires keys, by user, with a limit on their requests."""
    config = WebConfig(keys="required", limits=storage_uri(redis_url), rate="3/minute")
    app = web.create_app(memory, queue, Catalogue(tiny_models), config, TESTING=True)
    keys = {name: ApiKeys(queue.job_store.connection).add(name)[1] for name in ("ada", "grace")} | {"eve": "wrong"}
    with serving(app) as url:
        yield {name: sdk.with_options(base_url=f"{url}/v1", api_key=key) for name, key in keys.items()}


def test_a_wrong_key_is_an_authentication_error(guarded):
    assert list(guarded["ada"].models.list())
    with pytest.raises(openai.AuthenticationError) as caught:
        guarded["eve"].models.list()
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


def test_too_many_requests_are_a_rate_limit_error(guarded, painting):
    for _ in range(3):
        assert guarded["ada"].images.generate(**FOX).data
    with pytest.raises(openai.RateLimitError) as caught:
        guarded["ada"].images.generate(**FOX)
    assert int(caught.value.response.headers["retry-after"]) > 0 and caught.value.code == "rate_limit_exceeded"


def test_the_same_request_of_two_users_does_not_share_jobs(guarded, memory, painter, painting, reservations):
    painter.go_on.clear()
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(guarded[name].images.generate, **FOX) for name in ("ada", "ada", "grace")]
        wait_for(lambda: len(reservations) == 3 and len(paintings(painting)) == 2)
        painter.go_on.set()
        first, second, other = (keys(waiting.result()) for waiting in requests)
    assert first == second != other
    [key] = first
    wait_for(lambda: memory.index.get(key))
    later = guarded["grace"].images.generate(prompt="please draw the red fox in snow", size="64x64")
    assert keys(later) == other


def test_a_link_needs_no_key_and_does_not_reveal_the_scope(guarded, painting):
    file = httpx.get(guarded["ada"].images.generate(**FOX).data[0].url)
    assert file.status_code == 200 and b"ada" not in file.content


def test_a_removed_key_ends_a_request_that_waits(guarded, queue, painter, painting, monkeypatch):
    monkeypatch.setattr("web.openai.routes.WAIT_SECONDS", 20.0)
    painter.go_on.clear()
    keys = ApiKeys(queue.job_store.connection)
    threading.Timer(0.5, keys.remove, ["ada"]).start()
    started = time.monotonic()
    with pytest.raises(openai.APIStatusError) as caught:
        guarded["ada"].with_options(max_retries=0).images.generate(**FOX)
    assert caught.value.code in ("still_waiting", "still_painting")
    assert time.monotonic() - started < 10


def test_as_many_streams_as_allowed_convert_their_pictures(memory, queue, tiny_models, sdk, painting):
    """A stream that converts its pictures counts once."""
    app = web.create_app(memory, queue, Catalogue(tiny_models), WebConfig(long_requests="1"), TESTING=True)
    with serving(app) as url:
        stream = sdk.with_options(base_url=f"{url}/v1").images.generate(**FOX, stream=True, partial_images=2)
        assert [event.type for event in stream][-1] == "image_generation.completed"


def test_a_stream_works_with_a_key(guarded, painting):
    for name in ("ada", "grace"):
        [event] = guarded[name].images.generate(**FOX, stream=True)
        assert event.memo["origin"] == "painted" and open_image(event).size == (64, 64)
