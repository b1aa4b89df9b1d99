"""`memoaized reindex` moves every picture and label to the current embedder, losing and mixing nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from memo import BadSetup, Unavailable
from memo.image_files.thumbnail import thumbnail_object_name
from memo.index import Index, Labels, open_index, open_sibling
from memo.judge.feedback import Label
from memo.memory import object_name
from memo.points import open_client
from memoaized.cli import main
from memoaized.reindex import re_embed, serve_index
from memoaized.up import DataFolderLock, free_port
from tests.real import ROOT, painted
from worker.leases import LeaseKeeper


class NoiseEmbedder:
    """An embedder whose unit vectors depend on its name and the text, but have no meaning."""

    def __init__(self, name: str, dimension: int = 8) -> None:
        self.name, self.dimension = name, dimension

    def __call__(self, texts, scope="shared"):
        seeds = [sha256(f"{self.name} {self.dimension} {text}".encode()).digest() for text in texts]
        vectors = np.array(
            [np.random.default_rng(list(seed)).normal(size=self.dimension) for seed in seeds], np.float32
        )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


OLD, NEW = NoiseEmbedder("old"), NoiseEmbedder("new", 16)


@pytest.fixture
def index_of(request, tmp_path):
    """A function that opens an embedder's index, in memory unless the parameter is "embedded"."""
    if getattr(request, "param", "memory") == "memory":
        client = open_client("memory:", None)
        yield lambda embedder: Index(client, f"pictures-{embedder.name}", embedder.dimension)
        return
    with serve_index(tmp_path / "index") as (url, key):
        yield lambda embedder: open_index(url, f"pictures-{embedder.name}", embedder.dimension, api_key=key)


IndexOf = Callable[[NoiseEmbedder], Index]
in_both_clients = pytest.mark.parametrize("index_of", ["memory", "embedded"], indirect=True)


@pytest.fixture
def store_pictures(store, recipe):
    """A function that stores one picture per prompt, by default of five prompts."""

    def keep(*prompts: str):
        pictures = []
        for prompt in prompts or ("a fox", "a dog", "a cat", "a cow", "an owl"):
            picture, png = painted(replace(recipe, prompt=prompt))
            store.put(object_name(picture.key), png)
            pictures.append(picture)
        return pictures

    return keep


@pytest.fixture
def filled(index_of: IndexOf, store_pictures):
    """Five stored pictures, indexed by the old embedder."""
    pictures = store_pictures()
    index_of(OLD).add_all(pictures, OLD([picture.recipe.prompt for picture in pictures]))
    return pictures


@pytest.fixture
def lines() -> list[str]:
    return []


def find_by_prompt(index: Index, embedder: NoiseEmbedder, picture):
    """Find a picture by its prompt; None unless the nearest vector is that of the prompt itself."""
    [nearest] = index.find_candidates(embedder([picture.recipe.prompt])[0], picture.recipe, "shared", 1)
    return index.get(nearest.key) if nearest.cosine == pytest.approx(1, abs=0.02) else None


def label(**changes) -> Label:
    values = {"key": "k", "remembered": "a fox", "wanted": "a wolf", "right": False, "source": "user", "created": 1.0}
    return Label(**values | changes)


@in_both_clients
def test_every_picture_is_found_by_the_new_embedder(index_of: IndexOf, filled, store, lines):
    with pytest.raises(BadSetup):
        index_of(NEW).check_embedder()
    report = re_embed(NEW, index_of(NEW), store, lines.append)
    index = index_of(NEW)
    assert (report.pictures, report.unreadable, index.count()) == (5, [], 5)
    assert all(find_by_prompt(index, NEW, picture) == picture == index.get(picture.key) for picture in filled)
    assert [str(collection) for collection in report.unneeded] == ["5 pictures of the embedder 'old' (dimension 8)"]


def test_a_second_run_changes_nothing(index_of: IndexOf, filled, store, lines):
    first, second = (re_embed(NEW, index_of(NEW), store, lines.append) for _ in range(2))
    assert first == second and index_of(NEW).count() == 5


def test_pictures_painted_after_the_run_are_kept_when_switching_back(index_of, filled, store_pictures, store, lines):
    re_embed(NEW, index_of(NEW), store, lines.append)
    [newer] = store_pictures("a hen")
    index_of(NEW).add(newer, NEW(["a hen"])[0])
    with pytest.raises(BadSetup, match="6 pictures of the embedder 'new'"):
        index_of(OLD).check_embedder()
    re_embed(OLD, index_of(OLD), store, lines.append)
    assert find_by_prompt(index_of(OLD), OLD, newer) == newer


def test_an_interrupted_run_leaves_the_index_unusable_until_a_second_run_finishes(
    index_of: IndexOf, filled, store, lines, monkeypatch
):
    monkeypatch.setattr("memoaized.reindex.BATCH", 2)
    batches = []

    class Breaking(NoiseEmbedder):
        def __call__(self, texts):
            batches.append(len(texts))
            if len(batches) == 3:
                raise Unavailable("cut off")
            return super().__call__(texts)

    with pytest.raises(Unavailable, match="cut off"):
        re_embed(Breaking("new", 16), index_of(NEW), store, lines.append)
    assert index_of(OLD).count() == 5
    with pytest.raises(BadSetup, match="did not finish"):
        index_of(NEW).check_embedder()
    assert re_embed(NEW, index_of(NEW), store, lines.append).pictures == index_of(NEW).count() == 5


def test_a_lost_index_is_rebuilt_from_the_store(index_of: IndexOf, store_pictures, store, lines):
    pictures = store_pictures()
    assert re_embed(NEW, index_of(NEW), store, lines.append).unneeded == []
    assert [picture.key for picture in index_of(NEW).newest("shared", 9, None)] == [
        picture.key for picture in sorted(pictures, key=lambda picture: -picture.created)
    ]


def test_the_embedder_of_an_empty_memory_can_be_changed(index_of: IndexOf, store, lines):
    assert index_of(OLD).count() == 0
    assert re_embed(NEW, index_of(NEW), store, lines.append).pictures == index_of(NEW).count() == 0


@in_both_clients
def test_vectors_of_another_dimension_under_the_same_name_are_replaced(
    index_of: IndexOf, store_pictures, store, lines
):
    narrow, wide = NoiseEmbedder("same", 8), NoiseEmbedder("same", 16)
    [picture] = store_pictures("a fox")
    index_of(narrow).add(picture, narrow(["a fox"])[0])
    open_sibling(index_of(narrow), Labels, "labels").add(label(), narrow(["a wolf"])[0])
    re_embed(wide, index_of(wide), store, lines.append)
    assert find_by_prompt(index_of(wide), wide, picture) == picture
    assert list(open_sibling(index_of(wide), Labels, "labels").all()) == [label()]


@in_both_clients
def test_labels_survive_a_power_cut_while_their_collection_is_replaced(
    index_of: IndexOf, store_pictures, store, lines, monkeypatch
):
    narrow, wide = NoiseEmbedder("same", 8), NoiseEmbedder("same", 16)
    labels = open_sibling(index_of(narrow), Labels, "labels")
    labels.add(label(), narrow(["a wolf"])[0])

    def cut_off(self: Labels) -> None:
        self.client.delete_collection(self.collection)
        raise Unavailable("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(Labels, "recreate", cut_off)
        with pytest.raises(Unavailable, match="cut off"):
            re_embed(wide, index_of(wide), store, lines.append)
    assert re_embed(wide, index_of(wide), store, lines.append).labels == 1
    assert list(open_sibling(index_of(wide), Labels, "labels").all()) == [label()]


def test_labels_are_copied_and_the_newest_wins(index_of: IndexOf, store_pictures, store, lines):
    store_pictures()
    old, new = open_sibling(index_of(OLD), Labels, "labels"), open_sibling(index_of(NEW), Labels, "labels")
    for entry in (label(), label(wanted="a hen"), label(wanted="a cow", created=5.0)):
        old.add(entry, OLD([entry.wanted])[0])
    for entry in (label(right=True, created=2.0), label(wanted="a cow", right=True, created=4.0)):
        new.add(entry, NEW([entry.wanted])[0])
    assert re_embed(NEW, index_of(NEW), store, lines.append).labels == 3
    merged = sorted(new.all(), key=lambda entry: entry.created)
    assert [(entry.wanted, entry.right) for entry in merged] == [("a hen", False), ("a wolf", True), ("a cow", False)]
    [point] = new.client.retrieve(new.collection, [str(UUID(merged[0].id))], with_vectors=True)
    assert point.vector == pytest.approx(NEW(["a hen"])[0].tolist(), abs=1e-6)


def test_a_picture_keeps_the_prompts_for_which_it_was_labelled_wrong(index_of: IndexOf, filled, store, lines):
    key, labels = filled[0].key, open_sibling(index_of(OLD), Labels, "labels")
    for changes in ({"wanted": "a wolf"}, {"wanted": "a red fox", "right": True}, {"scope": "alice"}):
        labels.add(label(key=key, **changes), OLD(["a wolf"])[0])
    re_embed(NEW, index_of(NEW), store, lines.append)
    candidates = index_of(NEW).find_candidates(NEW(["a"])[0], filled[0].recipe, "shared", 9)
    wrong = {candidate.key: tuple(candidate.payload["wrong_for"]) for candidate in candidates}
    assert len(wrong) == 5 and wrong.pop(key) == ("a wolf",) and set(wrong.values()) == {()}


def test_points_of_deleted_pictures_are_removed(index_of: IndexOf, filled, store, lines):
    re_embed(NEW, index_of(NEW), store, lines.append)
    store.delete(object_name(filled[0].key))
    assert re_embed(NEW, index_of(NEW), store, lines.append).removed == 1
    assert index_of(NEW).get(filled[0].key) is None and index_of(NEW).count() == 4


def test_the_point_of_a_picture_painted_during_the_run_is_kept(
    index_of: IndexOf, filled, store_pictures, store, lines, monkeypatch
):
    names = list(store.names())
    [late] = store_pictures("a late owl")
    index = index_of(NEW)
    index.recreate()
    index.add(late, NEW(["a late owl"])[0])
    monkeypatch.setattr(store, "names", lambda: iter(names))
    assert re_embed(NEW, index, store, lines.append).removed == 0
    assert index.get(late.key) == late


def test_unreadable_files_are_reported_and_the_others_are_indexed(index_of: IndexOf, filled, store, lines, tmp_path):
    good = store.get(object_name(filled[0].key))
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    bad = {
        "00/bare.png": (tmp_path / "bare.png").read_bytes(),
        "00/copy.png": good,
        "00/cut.png": good[: len(good) // 2],
        "00/noise.png": b"noise",
    }
    for name, data in bad.items():
        store.put(name, data)
    store.put("note.txt", b"no picture")
    store.put(thumbnail_object_name(filled[0].key), b"belongs to its picture")
    report = re_embed(NEW, index_of(NEW), store, lines.append)
    assert (report.pictures, report.unreadable) == (5, sorted(bad))
    assert all(any(line.startswith(f"unreadable: {name}: ") for line in lines) for name in bad)
    assert "skipped 1 objects that are not PNG files, the first 'note.txt'" in lines
    assert index_of(NEW).count() == 5


# The command `memoaized reindex`


@pytest.fixture
def filled_data(tmp_path, store_pictures, store) -> Path:
    """A data folder whose five pictures another embedder has indexed, with one label."""
    pictures, data = store_pictures(), tmp_path
    (data / "text").symlink_to(ROOT / "var" / "text")
    with serve_index(data / "index") as (url, key):
        index = open_index(url, "pictures-old", OLD.dimension, api_key=key)
        index.add_all(pictures, OLD([picture.recipe.prompt for picture in pictures]))
        open_sibling(index, Labels, "labels").add(label(), OLD(["a wolf"])[0])
    return data


@pytest.fixture
def run(monkeypatch):
    monkeypatch.delenv("MEMO_INDEX", raising=False)

    def call(*arguments, code=0):
        result = CliRunner().invoke(main, ["reindex", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.output.splitlines()

    return call


def collections(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "index").iterdir() if path.is_dir())


def test_the_command_re_embeds_a_data_folder_and_drops_the_old_index_only_with_the_option(run, filled_data, embedder):
    *_, unneeded, last = run("--data", filled_data)
    assert unneeded.startswith("no longer needed, delete with --drop: 5 pictures of the embedder 'old'")
    assert "1 label of the embedder 'old'" in unneeded
    assert last.startswith(
        f"embedded with {embedder.name!r} (dimension 384): 5 pictures and 1 labels; 0 files unreadable"
    )
    assert {"pictures-old", "labels-pictures-old"} < set(collections(filled_data))
    *_, dropped, last = run("--data", filled_data, "--drop")
    assert dropped.startswith("dropped: 5 pictures of the embedder 'old'") and "5 pictures and 1 labels" in last
    kinds = ["pictures", "labels-pictures", "pending-pictures"]
    assert collections(filled_data) == sorted(
        ["embedder-of-pictures", *(f"{kind}-{embedder.name}" for kind in kinds)]
    )


def test_while_a_file_is_unreadable_nothing_is_dropped_and_the_exit_status_is_1(run, filled_data, store):
    store.put("00/noise.png", b"noise")
    *_, unneeded, last = run("--data", filled_data, "--drop", code=1)
    assert unneeded.startswith("not dropped, because some files are unreadable: 5 pictures of the embedder 'old'")
    assert "1 files unreadable" in last and "pictures-old" in collections(filled_data)


def test_the_command_re_embeds_the_memory_named_by_the_environment(run, filled_data, monkeypatch):
    with serve_index(filled_data / "index") as (url, key):
        settings = {"INDEX": url, "INDEX_KEY": key, "STORE": f"file:{filled_data / 'pictures'}"}
        settings["TEXT_FOLDER"] = str(filled_data / "text")
        for name, value in settings.items():
            monkeypatch.setenv(f"MEMO_{name}", value)
        assert "5 pictures and 1 labels" in run("--drop")[-1]


def test_a_data_folder_in_use_is_refused(run, filled_data):
    (filled_data / "run").mkdir()
    with DataFolderLock(filled_data):
        [line] = run("--data", filled_data, code=1)
    assert "in use by process" in line


def test_a_folder_without_pictures_is_refused(run, tmp_path):
    [line] = run("--data", tmp_path, code=1)
    assert "holds no pictures" in line and list(tmp_path.iterdir()) == []


# Processes over an index of another embedder


def test_a_picture_painted_before_the_required_run_is_indexed_after_it(
    runner, job_store, memory, store, recipe, store_pictures, lines
):
    memory.index = Index(open_client("memory:", None), "pictures-new", memory.embedder.dimension)
    old = Index(memory.index.client, "pictures-old", OLD.dimension)
    [indexed] = store_pictures("a fox")
    old.add(indexed, OLD(["a fox"])[0])
    assert "memory does not answer" in memory.recall(recipe).reason
    job = job_store.submissions.open_job(recipe, reason="", scope="shared", joinable=True)
    lease_keeper = LeaseKeeper(runner, lambda model: None, lambda: ["stickers"], slots=1, name="here", facts={})
    assert runner.paint(job.recipe.model) == "done"
    with pytest.raises(Unavailable, match="memoaized reindex"):
        lease_keeper.keep_index()
    assert len(job_store.backlog.unindexed()) == 1
    re_embed(
        memory.embedder, Index(memory.index.client, "pictures-new", memory.embedder.dimension), store, lines.append
    )
    lease_keeper.index_keeper.compare_at = 0.0
    lease_keeper.keep_index()
    assert job_store.backlog.unindexed() == [] and memory.index.count() == 2
    assert memory.recall(recipe).match is not None


def test_up_over_another_embedders_index_does_not_start_and_says_why(filled_data, tiny_models, run):
    command = [sys.executable, "-m", "memoaized.cli", "up", "--port", str(free_port()), "--data", str(filled_data)]
    command += ["--models", str(tiny_models)]
    up = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    [stopping] = [line for line in up.stdout.splitlines() if line.startswith("memoaized | stopping")]
    assert up.returncode == 1
    assert "5 pictures of the embedder 'old'" in stopping and "`memoaized reindex`" in stopping


def test_a_worker_over_another_embedders_index_ends_and_says_why(filled_data, tiny_models, unused_port):
    command = [sys.executable, "-m", "celery", "--app", "worker.main:app", "worker", "--pool", "threads"]
    with serve_index(filled_data / "index") as (url, key):
        environment = {"MEMO_INDEX": url, "MEMO_INDEX_KEY": key, "MEMO_TEXT_FOLDER": str(filled_data / "text")}
        environment |= {"JOBS_REDIS": f"redis://127.0.0.1:{unused_port}", "JOBS_MODELS": str(tiny_models)}
        environment |= {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        worker = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert worker.returncode == 1
    assert worker.stderr.splitlines()[-1].startswith("this worker cannot start: the index holds 5 pictures")
