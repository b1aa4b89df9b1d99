"""Graphs of large collections are built, by the real builder process, while the collections are in use."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from index_server import Collection, Collections, NotFound, open_collections
from tests.real import alive

DIMENSION, POINTS = 16, 3000
CONFIG = {
    "vectors": {"size": DIMENSION, "distance": "Cosine", "datatype": "turbo8"},
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 1},
}

T = TypeVar("T")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The index folder of a collection of POINTS points, closed before a graph was built."""
    with opened(tmp_path / "index", GRAPHLESS) as collections:
        collections.create("grown", CONFIG)
        grown = collections.get("grown")
        grown.index_field({"field_name": "kind", "field_schema": "keyword"})
        grown.index_field({"field_name": "number", "field_schema": "integer"})
        grown.upsert({"points": [point(number) for number in range(POINTS)]})
    yield tmp_path / "index"
    assert shards(tmp_path / "index") <= 1  # the shard in use, or none if the collection was deleted


GRAPHLESS = 10**9


@contextmanager
def opened(folder: Path, graph_points: int) -> Iterator[Collections]:
    with closing(open_collections(folder, flush_seconds=0.02, graph_points=graph_points)) as collections:
        yield collections


def vector(number: int) -> list[float]:
    rng = random.Random(number)
    return [rng.gauss(0, 1) for _ in range(DIMENSION)]


def point(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "vector": vector(number), "payload": {"kind": "ab"[number % 2], "number": number, **more}}


def shards(folder: Path) -> int:
    return len(list(folder.glob("grown/shard*")))


def until(condition: Callable[[], T]) -> T:
    """Return the first true value. A second `condition()` may miss a process whose command line is still empty."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def nearest(grown: Collection, number: int, *, exact: bool) -> list[int]:
    body = {"query": vector(number), "limit": 10, "params": {"exact": exact, "hnsw_ef": 64}}
    body |= {"filter": {"must": {"key": "kind", "match": {"value": "a"}}}}
    return [record["id"] for record in grown.query(body)["points"]]


def everything(grown: Collection) -> dict[int, dict[str, Any]]:
    records = grown.scroll({"limit": 2 * POINTS, "with_payload": True})["points"]
    return {record["id"]: record["payload"] for record in records}


def builders(server: int | None = None, command: str = "-m index_server.build_graph") -> list[psutil.Process]:
    return [child for child in psutil.Process(server).children() if runs(child, command)]


def runs(child: psutil.Process, command: str) -> bool:
    try:
        return command in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # ended a moment ago
        return False


def test_a_graph_finds_at_least_95_percent_of_what_a_scan_finds(folder: Path) -> None:
    with opened(folder, 2000) as collections:
        grown = collections.get("grown")
        until(lambda: grown.info()["indexed_vectors_count"] == POINTS)
        until(lambda: grown.info()["status"] == "green")
        queries = range(POINTS, POINTS + 100)
        overlaps = [len({*nearest(grown, n, exact=True)} & {*nearest(grown, n, exact=False)}) for n in queries]
        until(lambda: shards(folder) == 1)
        assert sum(overlaps) >= 0.95 * 10 * len(queries)
        assert all(number % 2 == 0 for n in queries for number in nearest(grown, n, exact=False))
    with opened(folder, GRAPHLESS) as collections:
        assert collections.get("grown").info()["indexed_vectors_count"] == POINTS


def test_a_graph_is_built_once(folder: Path) -> None:
    with opened(folder, 2000) as collections:
        grown = collections.get("grown")
        until(lambda: grown.count_unindexed() == (0, POINTS))
        until(lambda: shards(folder) == 1)
        used = list(folder.glob("grown/shard*"))
        time.sleep(0.5)
        assert list(folder.glob("grown/shard*")) == used and not builders()


def test_no_graph_is_built_for_too_few_points(folder: Path) -> None:
    with opened(folder, POINTS + 1) as collections:
        time.sleep(0.2)
        assert collections.get("grown").count_unindexed() == (POINTS, POINTS)
        assert not builders()


def test_changes_made_while_a_graph_is_built_are_kept(folder: Path) -> None:
    expected = {number: point(number)["payload"] for number in range(POINTS)}
    with opened(folder, 2000) as collections:
        grown = collections.get("grown")
        until(lambda: grown.info()["status"] == "yellow")
        added = POINTS
        while grown.info()["status"] == "yellow":
            grown.upsert({"points": [point(added)]})
            grown.delete_points({"points": [added - POINTS]})
            grown.set_payload({"payload": {"wrong": ["x"]}, "points": [added - 1]})
            expected[added] = point(added)["payload"]
            expected[added - 1] |= {"wrong": ["x"]}
            del expected[added - POINTS]
            added += 1
        assert added > POINTS
        assert everything(grown) == expected
        newest = {"order_by": {"key": "number", "direction": "desc"}, "limit": 3}
        assert [record["id"] for record in grown.scroll(newest)["points"]] == [added - 1, added - 2, added - 3]
    with opened(folder, GRAPHLESS) as collections:
        assert everything(collections.get("grown")) == expected


def test_a_killed_builder_is_logged_and_harms_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(folder, 2000) as collections:
        grown = collections.get("grown")
        until(builders)[0].kill()
        until(lambda: "collection grown goes on without a new graph" in caplog.text)
        assert f"the graph cannot be built: status -{signal.SIGKILL:d}" in caplog.text
        assert grown.info()["status"] == "green"
        assert len(everything(grown)) == POINTS
        time.sleep(0.2)
        assert not builders()  # no immediate retry


def test_a_builder_that_cannot_start_is_logged_with_its_reason(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index_server.graph.BUILDER", "index_server.nothing")
    with opened(folder, 2000):
        until(lambda: "No module named index_server.nothing" in caplog.text)


@pytest.mark.parametrize("step", ["shutil.copytree", "index_server.collection.write_durably"])
def test_a_full_disk_prevents_the_graph_and_nothing_else(
    step: str, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, target: object, *_more: object) -> None:
        if isinstance(target, Path):
            target.mkdir()
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(step, full)
    with opened(folder, 2000) as collections:
        grown = collections.get("grown")
        until(lambda: "goes on without a new graph: the disk of" in caplog.text)
        until(lambda: shards(folder) == 1)
        assert grown.info()["status"] == "green"
        grown.upsert({"points": [point(POINTS)]})
        assert len(everything(grown)) == POINTS + 1
    monkeypatch.undo()
    with opened(folder, 2000) as collections:
        grown = collections.get("grown")
        until(lambda: grown.count_unindexed() == (0, POINTS + 1))
        assert len(everything(grown)) == POINTS + 1


def test_closing_does_not_wait_for_a_graph(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    with opened(folder, 2000) as collections:
        until(builders)[0].suspend()
        collections.close()  # waiting for the suspended builder would never end
    assert not builders()
    assert not caplog.records
    with opened(folder, GRAPHLESS) as collections:
        assert len(everything(collections.get("grown"))) == POINTS


def test_a_collection_can_be_deleted_while_its_graph_is_built(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    with opened(folder, 2000) as collections:
        until(builders)
        assert collections.delete("grown")
        until(lambda: not builders())
        with pytest.raises(NotFound):
            collections.get("grown")
    assert not caplog.records


SERVER = """
import sys, time; from pathlib import Path; from index_server import graph, open_collections
graph.BUILDER = "sleeper"
collections = open_collections(Path(sys.argv[1]), flush_seconds=0.02, graph_points=2000); time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent's life")
def test_a_builder_ends_when_its_server_is_killed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(90)")
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}
    with subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], env=os.environ | paths) as server:
        [builder] = until(lambda: builders(server.pid, "-m sleeper"))
        until(lambda: "die_with_parent.py" not in " ".join(builder.cmdline()))
        server.kill()
    until(lambda: not alive(builder.pid))
    with opened(folder, GRAPHLESS) as collections:
        assert len(everything(collections.get("grown"))) == POINTS


def test_a_copy_left_by_a_crash_is_deleted(folder: Path) -> None:
    (folder / "grown" / "shard-left" / "segments").mkdir(parents=True)
    with opened(folder, GRAPHLESS) as collections:
        assert len(everything(collections.get("grown"))) == POINTS
        assert shards(folder) == 1
