"""A stub of the Hugging Face hub that serves folders, with answers in the form of the hub's API."""

import hashlib
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """A folder that the hub serves as a model; if it is `gated`, its files need the token."""

    folder: Path
    licence: str = "openrail++"
    gated: bool = False
    token: str = "hf_right"

    def files(self) -> dict[str, bytes]:
        """The bytes of the files, by path."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}


class HubStub:
    """Serves `models`, by id, each at one commit, which is the head of the branch main."""

    def __init__(self, models: dict[str, Repository]) -> None:
        self.models, self.paths = models, []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                stub.paths.append(self.path)
                status, headers, body = stub.answer(unquote(urlsplit(self.path).path), self.headers)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop the server; the hub is then unreachable."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, headers):
        """The status, headers and body for a path."""
        api, _, rest = path.removeprefix("/").partition("api/models/")
        name = "/".join((rest or api).split("/")[:2])
        if name not in self.models:
            return refusal(401, "RepoNotFound", "Repository not found")
        model, parts = self.models[name], (rest or api).removeprefix(name).strip("/").split("/")
        allowed = not model.gated or headers["Authorization"] == f"Bearer {model.token}"
        if parts[0] == "revision":
            if parts[1] not in ("main", COMMIT):
                return refusal(404, "RevisionNotFound", f"Invalid rev id: {parts[1]}")
            return as_json(about(name, model))
        if not allowed:
            return refusal(403, "GatedRepo", f"Access to model {name} is restricted")
        if parts[0] == "tree":
            return as_json([entry(path, data) for path, data in model.files().items()])
        return file_of(model, "/".join(parts[2:]))


def about(name, model):
    """The answer of `/api/models/ID/revision/main?blobs=true`, recorded from the hub and shortened."""
    files = model.files()
    index = json.loads(files.get("model_index.json", b"{}"))
    return {
        "_id": "6511e4e4e8a6d5a2c1b0f9e8",
        "id": name,
        "modelId": name,
        "author": name.partition("/")[0],
        "sha": COMMIT,
        "lastModified": "2024-01-01T00:00:00.000Z",
        "private": False,
        "gated": "auto" if model.gated else False,
        "disabled": False,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["diffusers", "safetensors", f"license:{model.licence}", "region:us"],
        "config": {"diffusers": {"_class_name": index.get("_class_name")}},
        "cardData": {"license": model.licence},
        "siblings": [{"rfilename": path, "size": len(data), "blobId": oid(data)} for path, data in files.items()],
        "createdAt": "2023-09-25T00:00:00.000Z",
        "downloads": 1,
        "likes": 1,
        "usedStorage": sum(map(len, files.values())),
    }


def entry(path, data):
    """An entry in the answer of `/api/models/ID/tree/COMMIT?recursive=true`."""
    return {"type": "file", "oid": oid(data), "size": len(data), "path": path}


def file_of(model, path):
    """The answer of `/ID/resolve/COMMIT/PATH`."""
    if (data := model.files().get(path)) is None:
        return refusal(404, "EntryNotFound", "Entry not found")
    return 200, {"ETag": f'"{oid(data)}"', "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"}, data


def oid(data):
    """The id that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def as_json(value):
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def refusal(status, code, message):
    headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
    return status, headers, json.dumps({"error": message}).encode()
