"""Qdrant's REST API in plain JSON, for the requests that every recall and every new picture makes.

qdrant-client builds a pydantic model of every part of a request and of every point in the answer, which takes as long
as the search. Rarer requests still go through it. The bodies are documented at
https://api.qdrant.tech/api-reference/search/query-points and https://api.qdrant.tech/api-reference/points.
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

API_KEY = "api-key"  # the header that carries it
CONNECTIONS = 8  # kept open; more are opened as needed


class RestClient:
    """A thread-safe client of one server, with persistent connections."""

    def __init__(self, url: str, port: int, api_key: str | None, timeout: float) -> None:
        """`port` is used if the URL has none; `timeout` is in seconds."""
        parts = parse_url(url)
        self.path = (parts.path or "").rstrip("/")
        base = parts._replace(port=parts.port or port, path=None).url
        self.pool = connection_from_url(base, maxsize=CONNECTIONS, timeout=timeout)
        self.headers = {"content-type": "application/json", **({API_KEY: api_key} if api_key else {})}

    def __call__(self, collection: str, endpoint: str, body: Json) -> list[Json]:
        """The points that `query` or `scroll` finds; raises UnexpectedResponse, or Unavailable without an answer."""
        points = self.send("POST", collection, f"/{endpoint}", body).get("points")
        if not isinstance(points, list):
            raise Unavailable("the index gave an answer without points")
        return points

    def send(self, method: str, collection: str, endpoint: str, body: Json) -> Json:
        """The result of an idempotent request; raises UnexpectedResponse, or Unavailable without an answer."""
        path = f"{self.path}/collections/{quote(collection, safe='')}/points{endpoint}"
        data = json.dumps(body)
        try:
            try:
                answer = self.send_once(method, path, data)
            except ProtocolError:  # the server closed the idle connection just as we reused it
                answer = self.send_once(method, path, data)
            result = json.loads(answer.data)["result"] if answer.status == 200 else {}
        except (HTTPError, ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"the index does not answer: {error}") from error
        if answer.status != 200:
            raise UnexpectedResponse(answer.status, answer.reason or "", answer.data, Headers(dict(answer.headers)))
        if not isinstance(result, dict):
            raise Unavailable(f"the index gave a malformed answer: {result!r}")
        return result

    def check_ready(self) -> None:
        """Raise Unavailable unless the server says that it is ready."""
        try:
            answer = self.pool.urlopen("GET", f"{self.path}/readyz", headers=self.headers, retries=False)
        except HTTPError as error:
            raise Unavailable(f"the index does not answer: {error}") from error
        if answer.status != 200:
            raise Unavailable(f"the index is not ready: {answer.data.decode(errors='replace')[:200]}")

    def send_once(self, method: str, path: str, data: str) -> BaseHTTPResponse:
        """Send the request without retries."""
        return self.pool.urlopen(method, path, body=data, headers=self.headers, retries=False)


def open_rest(client: QdrantClient) -> RestClient | None:
    """A client of the same server as a qdrant-client's; None for an index in memory."""
    options = client.init_options
    if not options["url"]:
        return None
    api_key = (options["headers"] or {}).get(API_KEY)
    return RestClient(options["url"], options["port"], api_key, options["timeout"])


def find_in_memory(client: QdrantClient, collection: str, endpoint: str, body: Json) -> list[Json]:
    """The points that `query` or `scroll` finds in an index in memory."""
    where, limit = models.Filter(**body["filter"]), body["limit"]
    if endpoint == "query":
        points = client.query_points(collection, query=body["query"], query_filter=where, limit=limit).points
        return [{"id": point.id, "score": point.score, "payload": point.payload} for point in points]
    order = models.OrderBy(**body["order_by"])
    records, _ = client.scroll(collection, scroll_filter=where, limit=limit, order_by=order)
    return [{"id": record.id, "payload": record.payload} for record in records]
