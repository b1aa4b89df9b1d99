"""An S3 server in this process that keeps objects in memory and fails on request.

It knows what `memo.store.s3` uses: PUT with `If-None-Match`, GET with a range, HEAD, DELETE and listing
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html).
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from werkzeug import Request, Response
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BUCKET = "pictures"


class Fault(StrEnum):
    """How the store fails."""

    NONE = "none"
    AWAY = "away"  # every request is answered with 503
    CONFLICT = "conflict"  # every write is answered with 409, and nothing is stored
    HALF = "half"  # only half of each object is stored; writes are answered with 500 and 200 in turn


class FaultyStore:
    """A WSGI application; set `fault` at any time."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.fault = Fault.NONE
        self.failures: Counter[Fault] = Counter()  # requests that failed, or were answered as if they had not

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        data = request.get_data()
        with self.lock:
            return self.answer(request, data)(environ, start_response)

    def answer(self, request: Request, data: bytes) -> Response:
        """The answer to a request with this body."""
        name = request.path.removeprefix(f"/{BUCKET}").removeprefix("/")
        if self.fault is Fault.AWAY:
            self.failures[self.fault] += 1
            return Response(status=503)
        if request.method == "PUT":
            return self.write(name, data, only_new="If-None-Match" in request.headers)
        if request.method == "DELETE":
            self.objects.pop(name, None)
            return Response(status=204)
        if not name:
            return Response(self.listing(request.args.get("prefix", "")), mimetype="application/xml")
        if name not in self.objects:
            return Response(status=404)
        found = Response(self.objects[name])
        return found.make_conditional(request, accept_ranges=True, complete_length=len(self.objects[name]))

    def write(self, name: str, data: bytes, *, only_new: bool) -> Response:
        """Store an object, as far as the fault allows."""
        if self.fault is Fault.CONFLICT:
            self.failures[self.fault] += 1
            return Response("<Error><Code>ConditionalRequestConflict</Code></Error>", 409)
        if only_new and name in self.objects:
            return Response("<Error><Code>PreconditionFailed</Code></Error>", 412)
        self.objects[name] = data
        if self.fault is not Fault.HALF:
            return Response()
        self.objects[name] = data[: len(data) // 2]
        self.failures[self.fault] += 1
        return Response(status=500 if self.failures[self.fault] % 2 else 200)

    def listing(self, prefix: str) -> str:
        """The names that begin with the prefix, as XML."""
        names = sorted(name for name in self.objects if name.startswith(prefix))
        entries = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in names)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"


@contextmanager
def serve_faulty_store() -> Iterator[tuple[FaultyStore, dict[str, str]]]:
    """Serve a store on a free port of 127.0.0.1; yields it and the settings with which processes use it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    store = FaultyStore()
    server = make_server("127.0.0.1", 0, store, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"s3://{BUCKET}?endpoint=http://127.0.0.1:{server.server_port}"
        yield store, {"MEMO_STORE": url, "MEMO_S3_ACCESS_KEY": "bench", "MEMO_S3_SECRET_KEY": "bench"}
    finally:
        server.shutdown()
        server.server_close()
