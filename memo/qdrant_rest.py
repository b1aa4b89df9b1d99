"""What every recall asks of Qdrant, and every picture puts there, in plain JSON. Knows no pictures.

qdrant-client makes a model of every part of a request and of every point in its answer, which takes as long as the
search; whatever is asked less often goes through it. https://api.qdrant.tech/api-reference/search/query-points and
https://api.qdrant.tech/api-reference/points have the bodies.
"""

import json
from typing import Any
from urllib.parse import quote

from httpx import Headers
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from urllib3 import BaseHTTPResponse, connection_from_url
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util import parse_url

from .errors import Unavailable

Json = dict[str, Any]

CONNECTIONS = 8  # that are kept; more are made as they are needed


class Rest:
    """A server, asked over connections that are kept; for several threads."""

    def __init__(self, url: str, port: int, api_key: str | None, timeout: float) -> None:
        """`port` is meant where the URL has none; `timeout` in seconds."""
        place = parse_url(url)
        self.path = (place.path or "").rstrip("/")
        base = place._replace(port=place.port or port, path=None).url
        self.pool = connection_from_url(base, maxsize=CONNECTIONS, timeout=timeout)
        self.headers = {"content-type": "application/json", **({"api-key": api_key} if api_key else {})}

    def __call__(self, collection: str, what: str, body: Json) -> list[Json]:
        """Points that a `query` or `scroll` finds; raises UnexpectedResponse, or Unavailable without an answer."""
        found = self.send("POST", collection, f"/{what}", body).get("points")
        if not isinstance(found, list):
            raise Unavailable("the index does not answer: there are no points in what it says")
        return found

    def send(self, method: str, collection: str, what: str, body: Json) -> Json:
        """The result of what may be done twice; raises UnexpectedResponse, or Unavailable without an answer."""
        path = f"{self.path}/collections/{quote(collection, safe='')}/points{what}"
        data = json.dumps(body)
        try:
            try:
                answer = self.once(method, path, data)
            except ProtocolError:  # the server gave up a connection that was kept, just as it was used again
                answer = self.once(method, path, data)
            result = json.loads(answer.data)["result"] if answer.status == 200 else {}
        except (HTTPError, ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"the index does not answer: {error}") from error
        if answer.status != 200:
            raise UnexpectedResponse(answer.status, answer.reason or "", answer.data, Headers(dict(answer.headers)))
        if not isinstance(result, dict):
            raise Unavailable(f"the index does not answer: it says {result!r}")
        return result

    def once(self, method: str, path: str, data: str) -> BaseHTTPResponse:
        """One try."""
        return self.pool.urlopen(method, path, body=data, headers=self.headers, retries=False)


def open_rest(client: QdrantClient) -> Rest | None:
    """The server that a client speaks to; None for one in memory."""
    options = client.init_options
    if not options["url"]:
        return None
    return Rest(options["url"], options["port"], options["api_key"], options["timeout"])


def ask_memory(client: QdrantClient, collection: str, what: str, body: Json) -> list[Json]:
    """The same of an index in memory."""
    where, limit = models.Filter(**body["filter"]), body["limit"]
    if what == "query":
        found = client.query_points(collection, query=body["query"], query_filter=where, limit=limit).points
        return [{"id": point.id, "score": point.score, "payload": point.payload} for point in found]
    order = models.OrderBy(**body["order_by"])
    records, _ = client.scroll(collection, scroll_filter=where, limit=limit, order_by=order)
    return [{"id": record.id, "payload": record.payload} for record in records]
