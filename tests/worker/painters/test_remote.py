"""Remote painters, with a stub that answers as the real services do."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from jobs.models import Catalogue
from memo import BadSetup
from worker.painters import remote
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions
from worker.painters.remote import RemoteRefused

FAMILIES = ("huggingface-inference", "bedrock")


def png(size=(64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "#c60").save(file, "PNG")
    return file.getvalue()


class Stub:
    """A server whose answers a test sets; the last answer repeats."""

    def __init__(self):
        self.answers, self.requests = [], []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                stub.requests.append((self.path, headers, json.loads(body)))
                status, kind, answer = stub.answers[0] if len(stub.answers) == 1 else stub.answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def stub():
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(remote, "BACKOFF", 0.001)
    monkeypatch.setattr(remote, "POLL_INTERVAL", 0.02)


@pytest.fixture
def credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")


def open_remote(tmp_path, stub, family, **changes):
    """Open a catalogue with one remote model; returns it and the model's painter."""
    description = {"name": "far", "title": "Far", "licence": "theirs", "family": family, "source": "owner/model"}
    description |= {"url": f"{stub.url}/models/x" if family != "bedrock" else stub.url, "region": "us-east-1"}
    description |= {
        "sizes": [64],
        "defaults": {"width": 64, "height": 64, "steps": 4, "guidance_scale": 3.0},
        "script": "",
    }
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "model.json").write_text(json.dumps(description | changes))
    catalogue = Catalogue(tmp_path)
    return catalogue, open_painter(catalogue.model("far"), PainterOptions(hub_token="hf_secret"))


def picture_answer(family, size=(64, 64)):
    """An answer of the service that holds a picture."""
    if family == "bedrock":
        return 200, "application/json", json.dumps({"images": [base64.b64encode(png(size)).decode()]}).encode()
    return 200, "image/png", png(size)


def busy_answer(family):
    if family == "bedrock":
        return 429, "application/json", b'{"message": "Too many requests"}'
    return 503, "application/json", b'{"error": "Model owner/model is currently loading", "estimated_time": 0.1}'


def refusal_answer(family):
    body = {"message": "This violates the policy"} if family == "bedrock" else {"error": "This violates the policy"}
    return 400, "application/json", json.dumps(body).encode()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recipe_is_sent_in_the_services_own_format_and_a_picture_is_returned(tmp_path, stub, family, credentials):
    catalogue, painter = open_remote(tmp_path, stub, family)
    stub.answers = [picture_answer(family, (128, 128))]
    steps = []
    recipe = catalogue.recipe({"prompt": "a red fox", "negative_prompt": "blur", "seed": 2**33 + 5})
    image = painter(recipe, steps.append)
    assert image.size == (64, 64) and image.mode == "RGB" and image.getpixel((9, 9)) == (204, 102, 0)
    assert steps[-1].step == 4 and painter.device == f"{family} owner/model"
    [(path, headers, body)] = stub.requests
    if family == "bedrock":
        assert path == "/model/owner%2Fmodel/invoke" and headers["authorization"].startswith("AWS4-HMAC-SHA256")
        assert body["textToImageParams"] == {"text": "a red fox", "negativeText": "blur"}
        expected = {
            "numberOfImages": 1,
            "width": 64,
            "height": 64,
            "cfgScale": 3.0,
            "seed": (2**33 + 5) % (2**31 - 1),
        }
        assert body["imageGenerationConfig"] == expected
    else:
        assert path == "/models/x" and headers["authorization"] == "Bearer hf_secret"
        assert body["inputs"] == "a red fox"
        expected = {
            "negative_prompt": "blur",
            "width": 64,
            "height": 64,
            "num_inference_steps": 4,
            "guidance_scale": 3.0,
        }
        assert body["parameters"] == expected | {"seed": 5}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_busy_service_is_retried_and_the_caller_gets_its_message(tmp_path, stub, family, credentials, short_waits):
    catalogue, painter = open_remote(tmp_path, stub, family)
    stub.answers = [busy_answer(family), busy_answer(family), picture_answer(family)]
    reports = []
    painter(catalogue.recipe({"prompt": "a red fox", "seed": 1}), reports.append)
    assert len(stub.requests) == 3
    reason = "Too many requests" if family == "bedrock" else "currently loading"
    assert any(reason in progress.message for progress in reports)
    assert all(progress.seconds_left > 0 for progress in reports if reason in progress.message)


@pytest.mark.parametrize("family", FAMILIES)
def test_retries_are_limited(tmp_path, stub, family, credentials, short_waits, monkeypatch):
    monkeypatch.setattr(remote, "MAX_ATTEMPTS", 2)
    catalogue, painter = open_remote(tmp_path, stub, family)
    stub.answers = [busy_answer(family)]
    with pytest.raises(RemoteRefused, match=f"{family} owner/model was busy 2 times"):
        painter(catalogue.recipe({"prompt": "a red fox", "seed": 1}), lambda progress: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refused_request_is_not_retried(tmp_path, stub, family, credentials):
    catalogue, painter = open_remote(tmp_path, stub, family)
    stub.answers = [refusal_answer(family)]
    with pytest.raises(RemoteRefused, match="refused with status 400.*violates the policy"):
        painter(catalogue.recipe({"prompt": "a red fox", "seed": 1}), lambda progress: None)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("data", [b"<html>Sign in</html>", png((64, 64))[:-40]], ids=["page", "half a picture"])
def test_an_answer_that_is_no_picture_is_named(tmp_path, stub, family, data, credentials):
    catalogue, painter = open_remote(tmp_path, stub, family)
    body = json.dumps({"images": [base64.b64encode(data).decode()]}).encode()
    stub.answers = [(200, "application/json", body) if family == "bedrock" else (200, "image/png", data)]
    with pytest.raises(RemoteRefused, match="the response holds (no|a damaged) picture") as error:
        painter(catalogue.recipe({"prompt": "a red fox", "seed": 1}), lambda progress: None)
    assert " at 0x" not in str(error.value)


def test_cancelling_does_not_wait_for_the_answer(tmp_path, stub, short_waits):
    catalogue, painter = open_remote(tmp_path, stub, "huggingface-inference")
    stub.answers = [(503, "application/json", b'{"error": "loading", "estimated_time": 50}')]

    class Stop(Exception):
        pass

    def stop(progress):
        if "loading" in progress.message:
            raise Stop

    with pytest.raises(Stop):
        painter(catalogue.recipe({"prompt": "a red fox", "seed": 1}), stop)


def test_a_missing_region_is_named(tmp_path, stub, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BadSetup, match="far cannot be reached: .*region"):
        open_remote(tmp_path, stub, "bedrock", region=None)


def test_a_job_fails_with_the_services_message(runner, job_store, recipe, tmp_path, stub):
    _, painter = open_remote(tmp_path, stub, "huggingface-inference")
    stub.answers = [refusal_answer("huggingface-inference")]
    runner.painters = lambda name: painter
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    assert runner.paint(recipe.model) == "failed" and "violates the policy" in job_store.jobs.find(job.id).error
