"""Runs the Compose set-up without Docker: every service's own command line and environment, on this machine.

Only addresses, ports and folders are replaced. The embedded index replaces Qdrant, and moto replaces the store, so
their command lines are not run here. Processes get only the environment variables of the compose file and the image.
"""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session

from tests.real import ROOT, missing
from tests.services import compose
from tests.services.s3 import S3Server
from tests.services.swift import free_ports

START_SECONDS = 180
PAINT_SECONDS = 120

REPLACED = ("index", "store")
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


class Deployment:
    """The services of the compose file as child processes."""

    def __init__(self, folder: Path, replacements: Mapping[str, str]) -> None:
        self.folder, self.replacements = folder, replacements
        self.services = compose.services_without_gpu()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.key = ""  # the API key that requests send

    def run(self, name: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command, with its output in NAME.log."""
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def up(self) -> None:
        """Do as `docker compose up --wait`: start each service after its dependencies; wait until all are healthy."""
        for name in compose.sort_by_dependency(self.services):
            for other in self.services[name].get("depends_on", {}):
                self.wait_until_ready(other)
            if name not in REPLACED:
                self.start(name)
        for name in self.running:
            self.wait_until_ready(name)

    def start(self, name: str) -> None:
        """Start the service with its own command line."""
        service = self.services[name]
        words = [*service.get("entrypoint", []), *service.get("command", [])]
        self.running[name] = self.run(name, self.native_command(words), self.environment(name))

    def wait_until_ready(self, name: str) -> None:
        """Wait until a service is healthy, or until one that ends by itself has succeeded."""
        if self.services[name]["restart"] == "no":
            assert self.running[name].wait(60) == 0, self.log_end(name)
        elif name != "store":  # moto runs before the deployment
            self.wait_until_healthy(name)

    def wait_until_healthy(self, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy(name):
            assert name not in self.running or self.running[name].poll() is None, self.log_end(name)
            assert time.monotonic() < deadline, self.log_end(name)
            time.sleep(0.2)

    def is_healthy(self, name: str) -> bool:
        """Return the result of the service's own health check."""
        check = compose.health_check(self.services[name])
        assert check
        environment = self.environment(name)
        completed = subprocess.run(self.native_command(check), env=environment, cwd=ROOT, capture_output=True)
        return completed.returncode == 0

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables that the image and the compose file set."""
        service = self.services[name]
        image = compose.image_environment(compose.dockerfile_of(service)) if "build" in service else {}
        variables = {**image, **service.get("environment", {})}
        return {variable: self.replace_addresses(value) for variable, value in variables.items()} | {"PATH": PATH}

    def native_command(self, words: list[str]) -> list[str]:
        """Return the command with the addresses and folders of this machine."""
        replaced = [self.replace_addresses(word) for word in words]
        return [sys.executable, "-m", "memoaized.cli", *replaced[1:]] if replaced[0] == "memoaized" else replaced

    def replace_addresses(self, text: str) -> str:
        """Replace all addresses and folders in one pass, so that no replacement is replaced again."""
        return re.sub("|".join(map(re.escape, self.replacements)), lambda match: self.replacements[match[0]], text)

    def log_end(self, name: str) -> str:
        return f"{name}: {(self.folder / f'{name}.log').read_text()[-3000:]}"

    def stop(self, name: str) -> int:
        """Send SIGTERM and return the exit status; fails when the service takes longer than its grace period."""
        process = self.running.pop(name)
        process.terminate()
        return process.wait(compose.seconds(self.services[name].get("stop_grace_period", "10s")))

    def kill(self) -> None:
        """Kill the processes that are still running."""
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, moto_s3: S3Server, tiny_models: Path
) -> Iterator[Deployment]:
    for program in ("redis-server", "redis-cli", "curl", "bash"):
        if shutil.which(program) is None:
            missing(program)
    folder = tmp_path_factory.mktemp("deployment")
    web, redis, index = free_ports(3)
    secrets = make_secrets(folder / "secrets", redis)
    replacements = {
        "http://store:9000": moto_s3.endpoint,
        "http://index:6333": f"http://127.0.0.1:{index}",
        "0.0.0.0": "127.0.0.1",
        ":8000": f":{web}",
        "8000": str(web),
        "6379": str(redis),
        "/6333": f"/{index}",
        "/run/secrets": str(secrets),
        "/make-bucket.sh": str(ROOT / "deploy" / "make-bucket.sh"),
        "/opt/memoaized/text": str(ROOT / "var" / "text"),
        "/opt/memoaized/models": str(tiny_models),
    }
    with ExitStack() as cleanup:
        started = Deployment(folder, replacements | make_folders(folder))
        cleanup.callback(started.kill)
        cleanup.enter_context(index_in_place_of_qdrant(started, index, secrets))
        started.up()
        started.key = create_key(started)
        yield started


def create_key(deployment: Deployment) -> str:
    """Create an API key, as `docker compose exec web memoaized key add` would."""
    command = deployment.native_command(["memoaized", "key", "add", "tester", "--scope", "shared"])
    created = subprocess.run(
        command, env=deployment.environment("web"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return created.stdout.strip()


def make_folders(folder: Path) -> dict[str, str]:
    """Create folders for Redis' data and for /tmp; returns their replacements."""
    for name in ("data", "tmp"):
        (folder / name).mkdir()
    return {"/data": str(folder / "data"), "/tmp": str(folder / "tmp")}


def make_secrets(folder: Path, redis_port: int) -> Path:
    """Run the deployment's own script, then change the address of Redis."""
    subprocess.run(["sh", ROOT / "deploy" / "make-secrets.sh", folder], check=True, capture_output=True)
    url = folder / "redis-url"
    text = url.read_text().replace("@redis:6379", f"@127.0.0.1:{redis_port}")
    url.unlink()
    url.write_text(text)
    return folder


@contextmanager
def index_in_place_of_qdrant(deployment: Deployment, port: int, secrets: Path) -> Iterator[None]:
    """Run the embedded index server, which must pass Qdrant's health check."""
    command = [sys.executable, "-m", "index_server.app", "--port", str(port)]
    environment = {
        "INDEX_SERVER_FOLDER": str(deployment.folder / "index"),
        "INDEX_SERVER_KEY": (secrets / "index-key").read_text().strip(),
        "HOME": str(deployment.folder / "tmp"),
    }
    process = deployment.run("index", command, environment)
    try:
        deployment.wait_until_healthy("index")
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_a_prompt_becomes_a_picture_in_the_bucket(deployment: Deployment, moto_s3: S3Server) -> None:
    job = finish(deployment, submit(deployment, "a lighthouse at night"))
    assert (job["state"], job["origin"]) == ("done", "painted")
    with urllib.request.urlopen(make_request(deployment, job["links"]["picture"] + "/image"), timeout=30) as image:
        png = image.read()
    assert png.startswith(b"\x89PNG\r\n")
    assert png in read_objects(moto_s3)


def test_a_repeated_prompt_is_answered_from_memory(deployment: Deployment) -> None:
    first = finish(deployment, submit(deployment, "a teapot on the moon"))
    second = finish(deployment, submit(deployment, "a teapot on the moon"))
    assert (second["origin"], second["picture"]["key"]) == ("memory", first["picture"]["key"])


def test_web_refuses_requests_without_a_key(deployment: Deployment) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(deployment.replace_addresses("http://127.0.0.1:8000/api/v1/jobs"), timeout=30)


def test_redis_refuses_clients_without_a_password(deployment: Deployment) -> None:
    port = deployment.replace_addresses("6379")
    ping = subprocess.run(["redis-cli", "-p", port, "ping"], capture_output=True, text=True)
    assert "NOAUTH" in ping.stdout


def test_an_index_that_answers_without_a_key_is_unhealthy(deployment: Deployment) -> None:
    class KeylessIndex(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeylessIndex) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        keyless = Deployment(deployment.folder, {"/6333": f"/{server.server_port}"})
        assert not keyless.is_healthy("index")
        server.shutdown()


def test_every_service_ends_cleanly_within_its_grace_period(deployment: Deployment) -> None:
    # This must be the last test of the file: it stops the services that the others use.
    for name in reversed(list(deployment.running)):
        assert deployment.stop(name) == 0, deployment.log_end(name)


def submit(deployment: Deployment, prompt: str) -> dict[str, Any]:
    body = json.dumps({"prompt": prompt, "width": 64, "height": 64, "steps": 2}).encode()
    with urllib.request.urlopen(make_request(deployment, "/api/v1/jobs", body), timeout=30) as answer:
        return json.load(answer)


def finish(deployment: Deployment, job: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + PAINT_SECONDS
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, deployment.log_end("worker")
        time.sleep(0.1)
        with urllib.request.urlopen(make_request(deployment, job["links"]["self"]), timeout=30) as answer:
            job = json.load(answer)
    return job


def make_request(deployment: Deployment, path: str, body: bytes | None = None) -> urllib.request.Request:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {deployment.key}"}
    return urllib.request.Request(deployment.replace_addresses("http://127.0.0.1:8000") + path, body, headers)


def read_objects(server: S3Server) -> list[bytes]:
    """Return the contents of all objects in the deployment's bucket."""
    client = Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    names = [entry["Key"] for entry in client.list_objects_v2(Bucket="pictures").get("Contents", [])]
    return [client.get_object(Bucket="pictures", Key=name)["Body"].read() for name in names]
