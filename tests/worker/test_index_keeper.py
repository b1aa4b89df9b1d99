"""The index knows every picture in the store, whatever it lost, and the backlog keeps what it may still lose."""

import shutil
import threading
import time

import pytest

from index_server.app import collections_of, create_app
from jobs.store.backlog import INDEXED_AT_ONCE
from memo import Unavailable
from memo.index import open_index
from memo.memory import IndexComparison, object_name
from memoaized.reindex import serve_index
from tests.real import painted
from worker.index_keeper import IndexKeeper


@pytest.fixture
def index_keeper(job_store, memory):
    return IndexKeeper(job_store, memory, "here", threading.Event())


@pytest.fixture
def keep(memory, recipe):
    """Store a picture without indexing it, and return it."""

    def keep(seed, scope="shared"):
        picture, png = painted(recipe, seed=seed, scope=scope)
        memory.keep(picture, png)
        return picture

    return keep


def keys(job_store):
    return [entry.key for entry in job_store.backlog.unindexed(None)]


def test_a_finished_picture_stays_in_the_backlog_until_the_index_has_flushed(
    index_keeper, runner, job_store, memory, recipe, monkeypatch
):
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    assert runner.paint(recipe.model) == "done"
    key = job_store.jobs.find(job.id).picture.key
    assert keys(job_store) == [key]

    def fail():
        raise Unavailable("the disk of the index is full")

    monkeypatch.setattr(memory.index, "flush", fail)
    with pytest.raises(Unavailable):
        index_keeper.run_round()
    assert keys(job_store) == [key]
    monkeypatch.undo()
    index_keeper.run_round()
    assert keys(job_store) == []


def test_a_picture_that_the_index_lost_before_it_flushed_is_indexed_again(
    index_keeper, runner, job_store, memory, recipe
):
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    runner.paint(recipe.model)
    picture = job_store.jobs.find(job.id).picture
    memory.index.remove(picture.key)  # as a power cut does
    index_keeper.compare_at = float("inf")
    index_keeper.run_round()
    assert memory.index.get(picture.key) == picture and keys(job_store) == []


def test_without_an_index_the_backlog_waits_and_deleted_pictures_leave_it(
    index_keeper, job_store, memory, keep, unused_port, caplog
):
    picture = keep(1)
    job_store.backlog.add_missing([picture.key, "f" * 32], stored=2)
    index, memory.index = memory.index, open_index(f"http://127.0.0.1:{unused_port}", "x", memory.embedder.dimension)
    with pytest.raises(Unavailable, match="index"):
        index_keeper.run_round()
    assert len(keys(job_store)) == 2
    memory.index, index_keeper.compare_at = index, float("inf")
    index_keeper.run_round()
    assert memory.index.get(picture.key) == picture and keys(job_store) == [] and "f" * 32 in caplog.text


def test_pictures_that_the_index_lost_are_counted_said_and_indexed(
    index_keeper, job_store, memory, keep, remember, recipe, caplog, client
):
    remember(recipe, seed=1)
    pictures = [keep(seed, scope) for seed, scope in ((2, "shared"), (3, "mine"))]
    (memory.store.store.root / "notes.txt").write_text("not ours")
    index_keeper.compare()
    assert "the index knows 1 of 3 pictures" in caplog.text
    assert job_store.backlog.index_state() == (3, 2)
    job_store.heartbeats.beat("here", {"pid": 1})
    health = client.get("/healthz")
    assert health.status_code == 200 and "knows 1 of 3 pictures" in health.json["services"]["index"]
    assert "knows 1 of 3 pictures" in client.get("/queue").text
    index_keeper.run_round()
    assert all(memory.index.get(picture.key) == picture for picture in pictures)
    assert client.get("/healthz").json["services"]["index"] == "ok"
    assert "knows" not in client.get("/queue").text


def test_a_complete_index_is_left_alone(index_keeper, job_store, remember, recipe, caplog):
    caplog.set_level("INFO")
    remember(recipe)
    index_keeper.run_round()
    assert "the index knows 1 of 1 pictures" in caplog.text and keys(job_store) == []
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_store_that_cannot_be_listed_is_tried_again_later(index_keeper, job_store, memory, monkeypatch):
    def fail(prefix=""):
        raise Unavailable("cannot list")

    monkeypatch.setattr(memory.store, "names", fail)
    with pytest.raises(Unavailable):
        index_keeper.run_round()
    index_keeper.run_round()  # not at once
    assert job_store.backlog.take_turn("another")


def test_a_server_that_cannot_be_asked_to_flush_gets_a_minute(index_keeper, job_store, memory, remember, recipe):
    picture = remember(recipe)
    job_store.backlog.add_missing([picture.key], stored=1)
    index_keeper.memory.index.flush = lambda: False
    index_keeper.run_round()
    assert keys(job_store) == [picture.key]
    [entry] = job_store.backlog.unindexed()
    milliseconds = int(entry.entry.partition("-")[0]) - 61_000
    job_store.backlog.remove_unindexed([entry])
    job_store.backlog.redis.xtrim(job_store.backlog.prefix + "unindexed", maxlen=0)
    job_store.backlog.redis.delete(job_store.backlog.prefix + "unindexed")
    job_store.backlog.redis.xadd(job_store.backlog.prefix + "unindexed", {"key": picture.key}, id=f"{milliseconds}-0")
    index_keeper.run_round()
    assert keys(job_store) == []


def test_an_index_folder_that_was_removed_or_is_older_is_mended(index_keeper, memory, keep, recipe, tmp_path):
    pictures = [keep(seed) for seed in range(1, 4)]
    folder, older = tmp_path / "index", tmp_path / "older"
    for count, change in enumerate((lambda: None, lambda: shutil.rmtree(folder), lambda: restore(older, folder))):
        change()
        with serve_index(folder) as (url, key):
            memory.index = open_index(url, "pictures-test", memory.embedder.dimension, api_key=key)
            index_keeper.compare_at = 0.0
            index_keeper.run_round()
            assert set(memory.index.keys()) == {picture.key for picture in pictures}
        if count == 0:
            shutil.copytree(folder, older)
            pictures.append(keep(9))


def restore(older, folder):
    shutil.rmtree(folder)
    shutil.copytree(older, folder)


def test_the_embedded_index_writes_all_changes_to_the_disk_when_asked(tmp_path, monkeypatch):
    app = create_app(tmp_path / "index", "key", flush_seconds=3600)
    client, headers = app.test_client(), {"api-key": "key"}
    client.put("/collections/a", json={"vectors": {"size": 1, "distance": "Dot"}}, headers=headers)
    client.put("/collections/a/points", json={"points": [{"id": 1, "vector": [1]}]}, headers=headers)
    assert client.post("/collections/a/points/flush", headers=headers).status_code == 200
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "a" / "shard" / "wal")  # which a power cut may lose
    copy = create_app(tmp_path / "copy", "key")
    assert collections_of(copy).get("a").count({}) == {"count": 1}
    collections_of(copy).close()
    monkeypatch.setattr(collections_of(app).get("a"), "_unflushed", True)
    (tmp_path / "index" / "a" / "shard" / "segments").rename(tmp_path / "away")
    client.post("/collections/a/points/delete", json={"points": [1]}, headers=headers)
    assert client.post("/collections/a/points/flush", headers=headers).status_code == 500
    (tmp_path / "away").rename(tmp_path / "index" / "a" / "shard" / "segments")
    collections_of(app).close()


def test_two_workers_do_not_index_the_same_pictures(index_keeper, job_store, memory, keep):
    keep(1)
    other = IndexKeeper(job_store, memory, "there", threading.Event())
    assert job_store.backlog.take_turn("here")
    other.run_round()
    assert memory.index.count() == 0
    index_keeper.run_round()
    other.run_round()
    assert memory.index.count() == 1 and not memory.compare_index().missing


def test_a_picture_that_cannot_be_read_does_not_hold_up_the_others(
    index_keeper, job_store, memory, keep, monkeypatch
):
    pictures = [keep(seed) for seed in range(3)]
    real = memory.store.get

    def get(name):
        if pictures[0].key in name:
            raise Unavailable("input/output error")
        return real(name)

    monkeypatch.setattr(memory.store, "get", get)
    job_store.backlog.add_missing([picture.key for picture in pictures], stored=3)
    index_keeper.compare_at = float("inf")
    index_keeper.run_round()
    assert [memory.index.get(picture.key) is not None for picture in pictures] == [False, True, True]
    assert keys(job_store) == [pictures[0].key] and job_store.backlog.index_state() == (3, 1)
    monkeypatch.undo()
    index_keeper.run_round()
    assert memory.index.get(pictures[0].key) and keys(job_store) == [] and job_store.backlog.index_state() == (3, 0)


def test_a_picture_deleted_while_it_is_indexed_leaves_no_words(index_keeper, job_store, memory, keep, monkeypatch):
    picture, real = keep(1), memory.index_picture

    def index_picture(picture):
        memory.forget(picture.key)
        real(picture)

    monkeypatch.setattr(memory, "index_picture", index_picture)
    job_store.backlog.add_missing([picture.key], stored=1)
    index_keeper.compare_at = float("inf")
    index_keeper.run_round()
    assert memory.index.get(picture.key) is None and keys(job_store) == []


def test_new_pictures_wait_for_the_next_flush_but_those_that_were_missing_do_not(
    index_keeper, job_store, memory, keep, monkeypatch
):
    flushes = []
    monkeypatch.setattr(memory.index, "flush", lambda: flushes.append(1) or True)
    index_keeper.compare_at = float("inf")
    first, second, missing = keep(1), keep(2), keep(3)
    add = job_store.backlog.redis.xadd
    add(job_store.backlog.prefix + "unindexed", {"key": first.key})
    index_keeper.run_round()
    assert (len(flushes), keys(job_store)) == (1, [])
    add(job_store.backlog.prefix + "unindexed", {"key": second.key})
    index_keeper.run_round()
    assert (len(flushes), keys(job_store)) == (1, [second.key]) and memory.index.get(second.key) == second
    job_store.backlog.add_missing([missing.key], stored=3)
    index_keeper.run_round()
    assert (len(flushes), keys(job_store)) == (2, [])
    add(job_store.backlog.prefix + "unindexed", {"key": second.key})
    monkeypatch.setattr(index_keeper, "flush_at", 0.0)
    index_keeper.run_round()
    assert (len(flushes), keys(job_store)) == (3, [])


def test_more_pictures_than_one_batch_leave_the_backlog_only_with_a_flush(
    index_keeper, job_store, memory, keep, monkeypatch
):
    flushed = set()
    monkeypatch.setattr(memory.index, "flush", lambda: flushed.update(memory.index.keys()) or True)
    index_keeper.compare_at = float("inf")
    old = int((time.time() - 3600) * 1000)  # older than a server that takes no flush request is given
    for number in range(INDEXED_AT_ONCE + 2):
        entry = {"key": keep(number).key}
        job_store.backlog.redis.xadd(job_store.backlog.prefix + "unindexed", entry, id=f"{old + number}-0")
    index_keeper.run_round()
    assert len(flushed) == INDEXED_AT_ONCE and len(keys(job_store)) == 2
    assert not flushed.intersection(keys(job_store)) and memory.index.count() == INDEXED_AT_ONCE + 2


def test_a_deleted_picture_that_the_index_still_knows_is_removed_by_the_comparison(
    index_keeper, memory, store, remember, recipe
):
    deleted, kept = remember(recipe), remember(recipe, seed=2)
    store.delete(object_name(deleted.key))  # as a power cut leaves it, after which the index has an older state
    index_keeper.run_round()
    assert memory.index.get(deleted.key) is None and memory.index.get(kept.key) == kept


@pytest.mark.parametrize("stored", [0, 1])
def test_an_almost_empty_store_takes_nothing_from_the_index(
    index_keeper, memory, store, keep, remember, recipe, stored, monkeypatch, caplog
):
    monkeypatch.setattr("memo.memory.MAX_SURPLUS", 1)
    pictures = [remember(recipe, seed=seed) for seed in (1, 2)]
    for picture in pictures:
        store.delete(object_name(picture.key))
    for number in range(stored):
        keep(10 + number)
    index_keeper.run_round()
    assert all(memory.index.get(picture.key) == picture for picture in pictures)
    assert "is MEMO_STORE right?" in caplog.text


def test_a_picture_that_is_stored_while_the_index_is_compared_stays(memory, keep, remember, recipe):
    remember(recipe)
    picture = keep(2)
    memory.index_picture(picture)
    memory.remove_surplus(IndexComparison(2, frozenset(), frozenset({picture.key})))
    assert memory.index.get(picture.key) == picture


def test_the_deletion_of_the_last_picture_is_on_the_disk(memory, remember, recipe, monkeypatch):
    flushes = []
    first, last = remember(recipe), remember(recipe, seed=2)
    monkeypatch.setattr(memory.index, "flush", lambda: flushes.append(1) or True)
    memory.forget(first.key)
    assert not flushes
    memory.forget(last.key)
    assert flushes


def test_a_picture_that_is_indexed_while_it_is_deleted_goes(memory, store, remember, recipe, monkeypatch):
    picture = remember(recipe)
    delete = store.delete

    def index_and_delete(name):
        if name == object_name(picture.key):
            memory.index_picture(picture)
        delete(name)

    monkeypatch.setattr(store, "delete", index_and_delete)
    memory.forget(picture.key)
    assert memory.index.get(picture.key) is None
