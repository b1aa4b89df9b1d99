"""How the S3 store treats servers that answer unusually."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from memo import Unavailable
from memo.store import Store, open_store

CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>"


class PlainServer(ThreadingHTTPServer):
    """An S3 server of a few lines: it keeps each body as it comes, and knows no aws-chunked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PlainHandler)
        self.objects: dict[str, bytes] = {}
        self.conflicts = self.puts = 0
        self.is_forgetful, self.missing_status = False, 404
        self.missing = b""  # the answer to requests for objects that do not exist
        self.alter: Callable[[bytes], bytes] = bytes


class PlainHandler(BaseHTTPRequestHandler):
    server: PlainServer
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.server.puts += 1
        data = self.read_body()
        if self.server.conflicts:
            self.server.conflicts -= 1
            return self.answer(409, CONFLICT)
        if not self.server.is_forgetful:
            self.server.objects[self.path] = self.server.alter(data)
        return self.answer(200)

    def do_GET(self) -> None:
        data = self.server.objects.get(self.path)
        if data is None:
            self.answer(self.server.missing_status, self.server.missing)
        else:
            self.answer(200, data)

    def do_DELETE(self) -> None:
        was_there = self.server.objects.pop(self.path, None) is not None
        self.answer(204 if was_there else 404, b"" if was_there else self.server.missing)

    def read_body(self) -> bytes:
        if length := self.headers["Content-Length"]:
            return self.rfile.read(int(length))
        data = b""
        while size := int(line := self.rfile.readline(), 16):
            data += line + self.rfile.read(size + 2)
        return data + self.rfile.readline()

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainServer]:
    server = PlainServer()
    if getattr(request, "param", "") == "tls":
        file = write_certificate(tmp_path / "store.pem")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def write_certificate(file: Path) -> Path:
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")]),
    )
    today = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today, today + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return file


def store_at(server: PlainServer, scheme: str = "http", more: str = "") -> Store:
    endpoint = f"{scheme}://127.0.0.1:{server.server_port}"
    return open_store(f"s3://pictures?endpoint={endpoint}{more}", access_key="a", secret_key="b")


@pytest.mark.parametrize("server", ["tls"], indirect=True)
def test_a_server_that_does_not_know_aws_chunked_stores_the_bytes_as_they_are(server):
    store = store_at(server, "https")
    data = b"\x89PNG" + bytes(30_000)
    assert store.put("ab/one.png", data)
    assert server.objects == {"/pictures/ab/one.png": data} and store.get("ab/one.png") == data


def test_a_store_that_alters_objects_is_not_used(server):
    store = store_at(server)
    server.alter = lambda data: b"7538\r\n" + data
    with pytest.raises(Unavailable, match=r"of 256 bytes sent, 262 were stored"):
        store.put("ab/one.png", b"four")
    assert server.objects == {}
    server.alter = bytes
    assert store.put("ab/one.png", b"four")


@pytest.mark.parametrize("method", ["put", "replace"])
def test_a_conflicting_write_is_sent_again(server, monkeypatch, method):
    monkeypatch.setattr("memo.store.s3.CONFLICT_WAITS", (0, 0, 0))
    store = store_at(server)
    assert store.put("ab/zero.png", b"bytes")
    server.conflicts, server.puts = 2, 0
    getattr(store, method)("ab/one.png", b"bytes")
    assert server.objects["/pictures/ab/one.png"] == b"bytes" and server.puts == 3


def test_a_write_that_stays_in_conflict_is_an_outage_and_not_taken_for_stored(server, monkeypatch):
    monkeypatch.setattr("memo.store.s3.CONFLICT_WAITS", (0, 0, 0))
    server.conflicts = 100
    with pytest.raises(Unavailable, match="ConditionalRequestConflict"):
        store_at(server).put("ab/one.png", b"bytes")


def test_an_object_that_is_already_gone_can_be_deleted_on_servers_that_answer_404(server):
    store_at(server).delete("ab/never.png")


def test_a_bucket_that_disappears_does_not_count_as_lost_pictures(server):
    server.missing = b"<Error><Code>NoSuchBucket</Code><Message>It does not exist.</Message></Error>"
    store = store_at(server)
    for call in (store.get, store.delete, lambda name: store.tail(name, 4)):
        with pytest.raises(Unavailable, match="NoSuchBucket"):
            call("ab/one.png")


def test_a_clock_that_is_wrong_is_named(server):
    server.missing, server.missing_status = b"<Error><Code>RequestTimeTooSkewed</Code></Error>", 403
    with pytest.raises(Unavailable, match="RequestTimeTooSkewed"):
        store_at(server).get("ab/one.png")


def test_a_store_that_does_not_return_what_was_written_is_not_used(server):
    server.is_forgetful = True
    with pytest.raises(Unavailable, match="returns none of what was written"):
        store_at(server).put("ab/one.png", b"four")


def test_links_name_the_public_endpoint_and_without_one_the_pictures_are_served_by_us(server):
    assert store_at(server).link("ab/one.png", 60) is None
    link = store_at(server, more="&public=https://pictures.example.org").link("ab/one.png", 60)
    assert link and link.startswith("https://pictures.example.org/pictures/ab/one.png?X-Amz-")
