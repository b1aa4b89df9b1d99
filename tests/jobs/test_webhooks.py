"""Webhooks: deliveries to small real servers on this machine over a real Redis, and refused addresses."""

import base64
import contextlib
import datetime
import io
import json
import socket
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import psutil
import pytest
import standardwebhooks
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from PIL import Image

from jobs.config import JobsConfig
from jobs.webhooks.deliverer import Deliverer
from jobs.webhooks.deliveries import HORDE, RETRY_SECONDS, Webhook, Webhooks
from jobs.webhooks.receivers import Receivers, Undelivered, read_url
from jobs.webhooks.signature import generate_secret, signature_headers
from memo import BadRecipe, BadSetup, Match, Unavailable
from tests.real import ROOT, finished, wait_for

SECRET = generate_secret()
FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}


@dataclass
class Receiver:
    """A server that answers with these statuses, the last one repeatedly, and records the deliveries."""

    statuses: list[int] = field(default_factory=lambda: [200])
    deliveries: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def bodies(self):
        return [json.loads(body) for _, body in self.deliveries]


@pytest.fixture
def receiver():
    recorder = Receiver()
    recorder.go_on.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            recorder.deliveries.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            recorder.paths.append(self.path)
            recorder.go_on.wait(20)
            status = recorder.statuses.pop(0) if len(recorder.statuses) > 1 else recorder.statuses[0]
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorder.url = f"http://127.0.0.1:{server.server_port}/painted?for=me"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield recorder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hooks(job_store, queue):
    queue.webhooks = Webhooks(job_store, SECRET, Receivers("127.0.0.0/8"))
    return queue.webhooks


@pytest.fixture
def deliverer(hooks, memory):
    return Deliverer(hooks, memory, threads=1)


@pytest.fixture
def waiting_job(job_store, hooks, recipe, receiver):
    """A waiting job with a webhook."""
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    hooks.add(job, Webhook(url=receiver.url, job=job.id, links={"self": "http://us/job", "image": "http://us/image"}))
    return job


def deliver_all_due(deliverer):
    while deliverer.deliver_next():
        pass


def test_a_finished_picture_is_delivered_once(deliverer, runner, job_store, waiting_job, receiver):
    assert not deliverer.deliver_next()
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    [body] = receiver.bodies
    assert (body["id"], body["state"]) == (waiting_job.id, "done") and receiver.paths == ["/painted?for=me"]
    assert body["picture"]["key"] == job_store.jobs.find(waiting_job.id).picture.key
    assert body["links"] == {"self": "http://us/job", "image": "http://us/image"}
    assert job_store.connection.redis.keys(f"{job_store.connection.prefix}webhook*") == []


def test_receivers_verify_a_delivery_with_the_library_of_standard_webhooks(deliverer, runner, waiting_job, receiver):
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    [(headers, body)] = receiver.deliveries
    assert standardwebhooks.Webhook(SECRET).verify(body, headers)["id"] == waiting_job.id
    for wrong, sent in ((generate_secret(), body), (SECRET, body + b" ")):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(wrong).verify(sent, headers)


def test_a_signature_equals_that_of_other_implementations():
    """This is the example in the tests of the Standard Webhooks libraries."""
    secret, delivery = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    headers = signature_headers(secret, delivery, 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_failed_painting_is_delivered(deliverer, runner, painter, waiting_job, receiver):
    painter.fault = BadSetup("no such weights")
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    [body] = receiver.bodies
    assert body["state"] == "failed" and "no such weights" in body["error"] and body["picture"] is None


def test_a_cancelled_job_is_delivered_at_once_and_only_once(deliverer, runner, job_store, waiting_job, receiver):
    job_store.submissions.open_job(replace(waiting_job.recipe, seed=None), reason="", scope="shared")
    job_store.submissions.cancel(waiting_job.id)
    deliver_all_due(deliverer)
    assert [body["state"] for body in receiver.bodies] == ["cancelled"]
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    assert len(receiver.deliveries) == 1


def test_an_answer_from_memory_is_delivered(deliverer, queue, hooks, remember, recipe, receiver):
    picture = remember(recipe, seed=7)
    job = queue.job_store.submissions.record_remembered(recipe, Match(picture, 1.0, "same words"), "why")
    hooks.add(job, Webhook(url=receiver.url, job=job.id))
    deliver_all_due(deliverer)
    [body] = receiver.bodies
    assert (body["origin"], body["picture"]["key"]) == ("memory", picture.key)


def test_a_delivery_of_the_native_api_equals_the_job(client, queue, working, deliverer, receiver):
    answer = client.post("/api/v1/jobs", json={**FOX, "webhook": receiver.url, "count": 2})
    jobs = [finished(queue, job["id"]) for job in answer.json["jobs"]]
    deliver_all_due(deliverer)
    bodies = {body["id"]: body for body in receiver.bodies}
    assert bodies.keys() == {job.id for job in jobs}
    for job in jobs:
        shown, delivered = client.get(f"/api/v1/jobs/{job.id}").json, bodies[job.id]
        links = delivered.pop("links")
        assert client.get(links["image"]).mimetype == "image/png"
        assert client.get(links["self"]).json == shown and client.get(links["picture"]).json == shown["picture"]
        del shown["links"], shown["picture"]["links"]
        assert delivered == shown


@pytest.mark.parametrize("url", [7, "ftp://example.com/", "http://127.0.0.1/", "http://169.254.169.254/latest"])
def test_the_native_api_refuses_a_url_that_is_not_public(client, job_store, queue, url):
    queue.webhooks = Webhooks(job_store, SECRET)
    answer = client.post("/api/v1/jobs", json={**FOX, "webhook": url})
    assert (answer.status_code, answer.json["field"]) == (422, "webhook")
    assert job_store.jobs.recent(1) == []


def test_without_a_secret_there_are_no_webhooks(client):
    answer = client.post("/api/v1/jobs", json={**FOX, "webhook": "https://example.com/"})
    assert answer.status_code == 422 and "JOBS_WEBHOOK_SECRET" in answer.json["fix"]


def test_a_failed_delivery_is_retried_under_the_same_id(deliverer, runner, waiting_job, receiver, monkeypatch):
    monkeypatch.setattr("jobs.webhooks.deliveries.RETRY_SECONDS", (0.0,) * len(RETRY_SECONDS))
    receiver.statuses = [500, 503, 200]
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    assert len(receiver.deliveries) == 3 and len({headers["webhook-id"] for headers, _ in receiver.deliveries}) == 1


def test_the_waits_between_attempts_grow_and_the_attempts_end(hooks, runner, waiting_job):
    runner.paint(waiting_job.recipe.model)
    delivery = hooks.take_due()
    waits = [hooks.retry(replace(delivery, attempts=number)) for number in range(len(RETRY_SECONDS) + 1)]
    assert waits == [*RETRY_SECONDS, None] and sorted(RETRY_SECONDS) == list(RETRY_SECONDS)
    assert hooks.take_due() is None and not hooks.job_store.connection.redis.exists(
        f"{hooks.job_store.connection.prefix}webhook:{delivery.id}"
    )


def test_a_delivery_is_not_retried_before_its_time(hooks, deliverer, runner, waiting_job, receiver):
    receiver.statuses = [500]
    runner.paint(waiting_job.recipe.model)
    assert deliverer.deliver_next() and not deliverer.deliver_next()
    assert len(receiver.deliveries) == 1


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed_and_counts_as_a_failure(hooks, deliverer, runner, waiting_job, receiver, status):
    receiver.statuses = [status]
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    assert receiver.paths == ["/painted?for=me"]
    assert hooks.job_store.connection.redis.zcard(hooks.job_store.connection.prefix + "webhooks") == 1


def test_a_receiver_that_answers_410_gets_no_more_attempts(hooks, deliverer, runner, waiting_job, receiver):
    receiver.statuses = [410]
    runner.paint(waiting_job.recipe.model)
    deliver_all_due(deliverer)
    assert hooks.job_store.connection.redis.zcard(hooks.job_store.connection.prefix + "webhooks") == 0


def test_a_due_delivery_is_taken_by_only_one_deliverer(hooks, runner, waiting_job):
    runner.paint(waiting_job.recipe.model)
    assert hooks.take_due() and hooks.take_due() is None


def test_a_killed_deliverer_loses_nothing(hooks, deliverer, redis_url, runner, waiting_job, receiver):
    runner.paint(waiting_job.recipe.model)
    receiver.go_on.clear()
    code = (
        "import sys\nfrom jobs.webhooks import deliverer, deliveries\n"
        "from jobs.store.job_store import open_job_store\n"
        "from jobs.webhooks.receivers import Receivers\n"
        "deliveries.LEASE_SECONDS = 0.5\n"
        f"hooks = deliveries.Webhooks(open_job_store(sys.argv[1]), {SECRET!r}, Receivers('127.0.0.0/8'))\n"
        "deliverer.Deliverer(hooks, None).deliver_next()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, redis_url], cwd=ROOT)
    wait_for(lambda: receiver.deliveries)
    process.kill()
    process.wait()
    receiver.go_on.set()
    wait_for(deliverer.deliver_next)
    assert [body["id"] for body in receiver.bodies] == [waiting_job.id] * 2
    deliver_all_due(deliverer)
    assert len(receiver.deliveries) == 2


def test_workers_deliver_in_the_background(deliverer, runner, waiting_job, receiver, monkeypatch):
    monkeypatch.setattr("jobs.webhooks.deliverer.PERIOD", 0.05)
    deliverer.start()
    runner.paint(waiting_job.recipe.model)
    wait_for(lambda: receiver.deliveries)
    deliverer.stop()
    assert not any(thread.is_alive() for thread in deliverer.threads)


@pytest.mark.parametrize("fault", [Unavailable("the queue does not answer"), TypeError("a field of a newer version")])
def test_no_error_ends_a_deliverer(deliverer, monkeypatch, caplog, fault):
    monkeypatch.setattr("jobs.webhooks.deliverer.PERIOD", 0.01)
    rounds = []

    def fail():
        rounds.append(1)
        raise fault

    monkeypatch.setattr(deliverer, "deliver_next", fail)
    deliverer.start()
    wait_for(lambda: len(rounds) > 4)
    deliverer.stop()
    assert str(fault) in caplog.text


def test_a_delivery_for_ai_horde_has_its_fields(deliverer, hooks, job_store, memory, runner, recipe, receiver):
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    hooks.add(job, Webhook(url=receiver.url, job=job.id, form=HORDE, request="the-request"))
    runner.paint(recipe.model)
    deliver_all_due(deliverer)
    [body] = receiver.bodies
    assert body.keys() >= {
        "img",
        "seed",
        "worker_id",
        "worker_name",
        "model",
        "id",
        "gen_metadata",
        "request",
        "kudos",
    }
    assert (body["request"], body["state"], body["model"]) == ("the-request", "ok", "stickers")
    image = Image.open(io.BytesIO(base64.b64decode(body["img"])))
    assert (image.format, image.size) == ("WEBP", (64, 64)) and body["seed"] == str(
        job_store.jobs.find(job.id).recipe.seed
    )


REFUSED = """
http://127.0.0.1/ http://127.1/ http://2130706433/ http://0x7f000001/ http://017700000001/ http://0177.0.0.1/ http://0/
http://0.0.0.0/ http://10.1.2.3/ http://172.16.0.1/ http://192.168.1.1/ http://169.254.169.254/ http://100.64.0.1/
http://192.0.0.8/ http://192.0.2.1/ http://198.18.0.1/ http://203.0.113.5/ http://224.0.0.1/ http://240.0.0.1/
http://255.255.255.255/ http://[::]/ http://[::1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/
http://[::127.0.0.1]/ http://[64:ff9b::7f00:1]/ http://[2002:7f00:1::]/ http://[2001::1]/ http://[2001:db8::1]/
http://[fe80::1]/ http://[fe80::1%25lo]/ http://[fc00::1]/ http://[fd00:ec2::254]/ http://[fec0::1]/ http://[ff02::1]/
http://93.184.216.34:22/ https://93.184.216.34:6/ http://93.184.216.34:0/ ftp://93.184.216.34/ file:///etc/passwd
gopher://93.184.216.34/ //93.184.216.34/ http:///path http://me:you@93.184.216.34/ http://me@93.184.216.34/
http://93.184.216.34:99999/ http://93.184.216.34:x/ https://пример.рф/ http://a_b\\c/ http://[::1
http://168.63.129.16/ http://[::ffff:168.63.129.16]/ http://2822734096/
""".split()


@pytest.mark.parametrize(
    "url", [*REFUSED, "", "nonsense", "http://exa mple.com/", "http://x/\r\nHost: y", "h" * 3000]
)
def test_a_url_with_a_private_address_is_refused_with_the_request(url):
    with pytest.raises(BadRecipe, match="webhook"):
        Receivers().check(url)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a?b=c", "http://93.184.216.34:8080/", "https://[2606:2800:220:1::1]/", "https://A.b.:443"],
)
def test_a_public_url_is_accepted(url):
    Receivers().check(url)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "ip6-localhost", "LOCALHOST"])
def test_a_name_of_this_machine_is_refused_when_it_is_resolved(host):
    with pytest.raises(Undelivered) as refused:
        Receivers().post(f"http://{host}:9/", b"{}", {})
    assert "127.0.0.1" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://93.184.216.34/", "http://[2606:2800:220:1::1]/"])
def test_a_public_address_of_this_machine_itself_is_refused(monkeypatch, url):
    own = {"eth0": [SimpleNamespace(address=address) for address in ("93.184.216.34", "2606:2800:220:1::1%eth0", "")]}
    Receivers().check(url)
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: own)
    with pytest.raises(BadRecipe, match="must be public"):
        Receivers().check(url)


def test_only_the_public_addresses_of_a_name_are_used(monkeypatch):
    addresses = [
        (0, 0, 0, "", (address, 80)) for address in ("10.0.0.1", "93.184.216.34", "::ffff:10.0.0.1", "fe80::1%lo")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    assert [str(address) for address in Receivers().addresses(read_url("http://mixed.example/"))] == ["93.184.216.34"]


def test_a_name_is_resolved_once_and_the_checked_address_is_used(receiver, monkeypatch):
    """The owner of a name could return another address the second time."""
    resolve, resolved = socket.getaddrinfo, []

    def answer(host, port, *args, **options):
        if host == "rebound.example":
            resolved.append(host)
            assert len(resolved) == 1
            host = "127.0.0.1"
        return resolve(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    url = receiver.url.replace("127.0.0.1", "rebound.example")
    Receivers("127.0.0.0/8").post(url, b"{}", {})
    assert receiver.deliveries[0][0]["Host"] == url.split("/")[2] and resolved == ["rebound.example"]


@pytest.mark.parametrize("allow", ["127.0.0.1", " 10.0.0.0/8 , 127.0.0.0/8", "localhost", "LocalHost,example.com"])
def test_private_receivers_can_be_allowed_by_network_or_by_name(receiver, allow):
    Receivers(allow).post(receiver.url.replace("127.0.0.1", "localhost"), b"{}", {})
    assert len(receiver.deliveries) == 1


def test_allowing_a_name_does_not_allow_its_address(receiver):
    with pytest.raises(Undelivered):
        Receivers("localhost").post(receiver.url, b"{}", {})
    assert receiver.deliveries == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 200_000, b"220 mail.example ESMTP\r\n", b"HTTP/1.1 100 C\r\n\r\n"],
)
def test_a_receiver_that_answers_nothing_or_too_much_fails_the_delivery(answer):
    """Sending a few bytes every few milliseconds does not keep the delivery open either."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url, over = f"http://127.0.0.1:{listener.getsockname()[1]}/", threading.Event()

        def drip():
            connection, _ = listener.accept()
            with connection:
                while not over.is_set():
                    try:
                        connection.sendall(answer)
                    except OSError:
                        return
                    over.wait(0.02)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(Undelivered):
            Receivers("127.0.0.1").post(url, b"{}", {}, seconds=0.4)
        over.set()
        thread.join()


@pytest.fixture
def tls_context(tmp_path, monkeypatch):
    """The TLS context of a server named hooks.test, whose certificate this process trusts."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.test")]),
    )
    today = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today, today + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("hooks.test")])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    file = tmp_path / "hooks.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize(("host", "accepted"), [("hooks.test", True), ("127.0.0.1", False), ("other.test", False)])
def test_certificates_are_checked_against_the_name_in_the_url_not_the_address(
    tls_context, monkeypatch, host, accepted
):
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **options: resolve("127.0.0.1", *rest, **options))
    server = ThreadingHTTPServer(("127.0.0.1", 0), AcceptingHandler)
    server.socket = tls_context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setattr(server, "handle_error", lambda *_: None)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    with contextlib.nullcontext() if accepted else pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED"):
        Receivers("127.0.0.0/8").post(f"https://{host}:{server.server_port}/", b"{}", {})
    server.shutdown()
    thread.join()
    server.server_close()


class AcceptingHandler(BaseHTTPRequestHandler):
    """Accepts every delivery."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def secret_of(size):
    return "whsec_" + base64.b64encode(bytes(size)).decode()


@pytest.mark.parametrize("secret", ["0" * 64, "whsec_", "whsec_ü", secret_of(23), secret_of(65), secret_of(24)[6:]])
def test_a_malformed_secret_is_refused_with_the_command_that_draws_one(secret):
    with pytest.raises(BadSetup, match="JOBS_WEBHOOK_SECRET is not whsec_ and 24 to 64 .*/dev/urandom"):
        JobsConfig(webhook_secret=secret)


@pytest.mark.parametrize(
    "secret", [secret_of(24), secret_of(64), generate_secret()], ids=["shortest", "longest", "generated"]
)
def test_a_standard_webhooks_secret_is_accepted(secret):
    assert JobsConfig(webhook_secret=secret).webhook_secret == secret


@pytest.mark.parametrize("values", [{"webhook_secret": "short"}, {"webhook_allow": "not a host!"}])
def test_a_wrong_setting_is_refused(values):
    with pytest.raises(BadSetup, match="JOBS_WEBHOOK"):
        JobsConfig(**values)
