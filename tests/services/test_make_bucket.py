"""deploy/make-bucket.sh creates the bucket of the Compose set-up with only sh and curl."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.real import missing
from tests.services.compose import REPOSITORY
from tests.services.s3 import S3Server

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-secret/with+signs="


class RecordingServer(ThreadingHTTPServer):
    """Answers every request with the same status and records it."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), RecordingHandler)
        self.status = status
        self.requests: list[AWSRequest] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class RecordingHandler(BaseHTTPRequestHandler):
    server: RecordingServer

    def do_PUT(self) -> None:
        url = f"{self.server.endpoint}{self.path}"
        self.server.requests.append(AWSRequest(self.command, url, headers=dict(self.headers)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT

    def log_message(self, *_: Any) -> None:
        pass


class SameHeaders(S3SigV4Auth):
    """Signs the same headers as the client."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        signed = HTTPMessage()
        for name in request.headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";"):
            signed[name] = request.headers[name]
        return signed


@pytest.fixture
def recorder(request: pytest.FixtureRequest) -> Iterator[RecordingServer]:
    with RecordingServer(request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_creating_a_bucket_twice_succeeds(moto_s3: S3Server, tmp_path: Path) -> None:
    name = f"test-{uuid4().hex}"
    for _ in range(2):
        assert make_bucket(moto_s3.endpoint, name, tmp_path).returncode == 0


@pytest.mark.parametrize("recorder", [200], indirect=True)
def test_the_requests_are_signed_as_boto_signs_them(recorder: RecordingServer, tmp_path: Path) -> None:
    make_bucket(recorder.endpoint, "pictures", tmp_path)
    assert [(request.method, request.url) for request in recorder.requests] == [
        (method, f"{recorder.endpoint}/pictures") for method in ("PUT", "GET")
    ]
    for request in recorder.requests:
        assert "x-amz-content-sha256" in request.headers["Authorization"]
        assert request.headers["Authorization"].endswith(f"Signature={signature(request)}")


@pytest.mark.parametrize("recorder", [403, 500], indirect=True)
def test_a_refusal_is_printed_and_fails_the_script(recorder: RecordingServer, tmp_path: Path) -> None:
    done = make_bucket(recorder.endpoint, "pictures", tmp_path)
    assert done.returncode == 1
    assert f"{recorder.endpoint}/pictures was answered with {recorder.status}" in done.stderr


@pytest.mark.parametrize("recorder", [409], indirect=True)
def test_an_existing_bucket_that_cannot_be_read_fails_the_script(recorder: RecordingServer, tmp_path: Path) -> None:
    assert make_bucket(recorder.endpoint, "pictures", tmp_path).returncode == 1


def make_bucket(endpoint: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("curl") is None:
        missing("curl")
    (folder / "access-key").write_text(ACCESS_KEY + "\n")
    (folder / "secret-key").write_text(SECRET_KEY)
    keys = {"ACCESS_KEY_FILE": str(folder / "access-key"), "SECRET_KEY_FILE": str(folder / "secret-key")}
    script = REPOSITORY / "deploy" / "make-bucket.sh"
    command = ["sh", script, endpoint, name]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **keys}, capture_output=True, text=True)


def signature(request: AWSRequest) -> str:
    """Return botocore's signature of this request."""
    signer = SameHeaders(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1")
    request.context["timestamp"] = request.headers["X-Amz-Date"]
    request.context["payload_signing_enabled"] = True
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
