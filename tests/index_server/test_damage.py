"""Files of the index that a power cut, a full disk or a wrong owner spoiled."""

import json
import shutil

import pytest

from index_server import CannotStart, EngineFailure, open_collections
from index_server.app import create_app

KEY = {"api-key": "key"}
CONFIG = {"vectors": {"size": 4, "distance": "Cosine", "datatype": "turbo8"}, "on_disk_payload": False}


@pytest.fixture
def folder(tmp_path):
    """An index with the collections `one` and `two` of one point each."""
    collections = open_collections(tmp_path / "index")
    for name in ("one", "two"):
        collections.create(name, CONFIG)
        collections.get(name).upsert({"points": [{"id": 7, "vector": [1, 0, 0, 0], "payload": {"a": 1}}]})
    collections.close()
    return tmp_path / "index"


def counts(folder):
    """Open the index and return the number of points in each collection."""
    collections = open_collections(folder, lock_seconds=1)
    try:
        return {name: collections.get(name).count({})["count"] for name in collections.names()}
    finally:
        collections.close()


def remove(file):
    file.unlink()


SPOILED = {
    "missing": remove,
    "empty": lambda file: file.write_text(""),
    "half": lambda file: file.write_text(file.read_text()[:20]),
    "zeros": lambda file: file.write_bytes(bytes(100)),
    "of another kind": lambda file: file.write_text("[]"),
    "with another shard": lambda file: file.write_text('{"shard": "shard-of-yesterday"}'),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_configuration_is_rebuilt_from_the_engines_own(folder, how, caplog):
    before = json.loads((folder / "one" / "collection.json").read_text())
    SPOILED[how](folder / "one" / "collection.json")
    assert counts(folder) == {"one": 1, "two": 1}
    after = json.loads((folder / "one" / "collection.json").read_text())
    assert {**before, "shard": "shard"} == after and "rebuilt" in caplog.text


def test_a_collection_that_cannot_be_read_is_set_aside_and_can_be_created_anew(folder, caplog):
    shutil.rmtree(folder / "one" / "shard" / "segments")
    (folder / "one" / "shard" / "edge_config.json").write_bytes(bytes(10))
    assert counts(folder) == {"two": 1}
    assert "the collection in" in caplog.text and "cannot be read" in caplog.text and ".damaged-one" in caplog.text
    assert "indexes its pictures again; reports on wrong answers, if it held any, are lost" in caplog.text
    app = create_app(folder, KEY["api-key"])
    client = app.test_client()
    answer = client.put("/collections/one", json={"vectors": {"size": 4, "distance": "Cosine"}}, headers=KEY)
    assert answer.status_code == 200
    app.extensions["collections"].close()
    assert counts(folder) == {"one": 0, "two": 1}


def test_all_files_of_a_new_collection_are_synced_before_it_gets_its_name(tmp_path, disk_steps):
    collections = open_collections(tmp_path)
    collections.create("three", CONFIG)
    collections.close()
    before = disk_steps[: disk_steps.index(("rename", "three"))]
    assert {("sync", "collection.json"), ("sync", "edge_config.json"), ("sync", "shard")} <= set(before)


def test_a_folder_in_the_way_of_a_new_collection_is_named_in_the_error(folder):
    (folder / "three").mkdir()
    (folder / "three" / "notes.txt").write_text("mine")
    app = create_app(folder, KEY["api-key"])
    body = {"vectors": {"size": 4, "distance": "Cosine"}}
    answer = app.test_client().put("/collections/three", json=body, headers=KEY)
    app.extensions["collections"].close()
    assert answer.status_code == 500 and str(folder) in answer.json["status"]["error"]
    assert (folder / "three" / "notes.txt").exists()


@pytest.mark.parametrize(("number", "words"), [(28, "No space left on device"), (13, "Permission denied")])
def test_a_disk_that_is_full_or_closed_stops_the_start_and_moves_nothing(folder, number, words, monkeypatch):
    def refuse(*_):
        raise RuntimeError(f"Service internal error: IO Error: {words} (os error {number})")

    with monkeypatch.context() as patch:
        patch.setattr("index_server.collection_files.edge.EdgeShard.load", refuse)
        with pytest.raises(CannotStart, match=f"{folder}.*(is full|Permission denied)") as stopped:
            open_collections(folder)
    assert "move" not in str(stopped.value)
    assert counts(folder) == {"one": 1, "two": 1}


def test_a_write_to_a_full_disk_says_so_with_the_path(folder, monkeypatch):
    def fail(call):
        raise EngineFailure("Service internal error: WAL: No space left on device (os error 28)")

    app = create_app(folder, KEY["api-key"])
    body = {"points": [{"id": 8, "vector": [1, 0, 0, 0]}]}
    with monkeypatch.context() as patch:
        patch.setattr("index_server.collection.call_engine", fail)
        answer = app.test_client().put("/collections/one/points", json=body, headers=KEY)
    assert f"the disk of {folder / 'one'} is full" in answer.json["status"]["error"]
    assert app.test_client().put("/collections/one/points", json=body, headers=KEY).status_code == 200
    app.extensions["collections"].close()
