"""/healthz says whether a job can be served, and which service is at fault."""

from jobs.store.job_store import open_job_store
from memo import Unavailable
from memo.index import open_index
from memo.store import FolderStore


def test_healthy_when_a_job_can_be_served(client, job_store):
    job_store.heartbeats.beat("here", {"pid": 1})
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json["status"]) == (200, "ok")
    assert set(answer.json["services"].values()) == {"ok"}


def test_unhealthy_without_a_worker(client):
    answer = client.get("/healthz")
    assert answer.status_code == 503 and answer.json["services"]["workers"] == "no worker is running"


def test_degraded_without_an_index(client, job_store, memory, unused_port):
    job_store.heartbeats.beat("here", {"pid": 1})
    memory.index = open_index(f"http://127.0.0.1:{unused_port}", "x", memory.embedder.dimension)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert "does not answer" in answer.json["services"]["index"]


def test_degraded_while_the_index_counts_its_points_but_cannot_search(client, job_store, memory, monkeypatch):
    job_store.heartbeats.beat("here", {"pid": 1})

    def search(*_):
        raise Unavailable("the index refused the request: it answered 500")

    monkeypatch.setattr(memory.index, "find_points", search)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert memory.index.count() == 0 and "answered 500" in answer.json["services"]["index"]


def test_ready_without_a_worker_and_without_an_index(client, memory, unused_port):
    """So that a cluster goes on showing the gallery, and answering from memory, while no worker runs."""
    memory.index = open_index(f"http://127.0.0.1:{unused_port}", "x", memory.embedder.dimension)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ready", "services": {"queue": "ok", "store": "ok"}})


def test_not_ready_without_a_store_or_a_queue(client, queue, memory, tmp_path, unused_port):
    kept = memory.store
    (tmp_path / "file").touch()
    memory.store = FolderStore(tmp_path / "file")
    assert client.get("/readyz").status_code == 503
    memory.store = kept
    queue.job_store = open_job_store(f"redis://127.0.0.1:{unused_port}/0")
    answer = client.get("/readyz", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json["status"]) == (503, "not ready")


def test_unhealthy_without_a_store(client, job_store, memory, tmp_path):
    job_store.heartbeats.beat("here", {"pid": 1})
    (tmp_path / "file").touch()
    memory.store = FolderStore(tmp_path / "file")
    assert client.get("/healthz").status_code == 503


def test_unhealthy_without_a_queue_and_jobs_are_refused_with_a_time_to_retry(client, queue, unused_port):
    queue.job_store = open_job_store(f"redis://127.0.0.1:{unused_port}/0")
    answer = client.get("/healthz")
    assert answer.status_code == 503 and "queue" in answer.json["services"]["queue"]
    refused = client.post("/api/v1/jobs", json={"prompt": "a red fox"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "the queue does not answer" in refused.json["detail"]


def test_without_an_index_pictures_are_still_painted(client, queue, working, memory, unused_port):
    from tests.real import finished

    memory.index = open_index(f"http://127.0.0.1:{unused_port}", "x", memory.embedder.dimension)
    answer = client.post("/api/v1/jobs", json={"prompt": "a red fox"})
    assert answer.status_code == 202 and "memory does not answer" in answer.json["reason"]
    assert finished(queue, answer.json["id"]).picture
    assert client.get("/api/v1/pictures").status_code == 503
