"""The contract of the index, run in memory, on the embedded server, and on the Qdrant server at QDRANT_URL if set."""

import os
import uuid
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from memo import BadSetup, Picture, Recipe, Unavailable
from memo.errors import OtherEmbedder
from memo.index import (
    RECORDS,
    Index,
    IndexedPicture,
    Labels,
    PendingPaintings,
    open_index,
    open_sibling,
    to_indexed_picture,
)
from memo.judge.feedback import Label
from memo.points import open_client
from memoaized.reindex import serve_index as own_server

DIMENSION = 8


@pytest.fixture(params=["memory", "embedded", "server"])
def index(request) -> Index:
    name = f"test-{uuid.uuid4().hex}"
    if request.param == "memory":
        return open_index("memory:", name, DIMENSION)
    if request.param == "embedded":
        server = request.getfixturevalue("index_server")
        return open_index(server.url, name, DIMENSION, api_key=server.key)
    if "QDRANT_URL" not in os.environ:
        pytest.skip("QDRANT_URL names no Qdrant server")
    return open_index(os.environ["QDRANT_URL"], name, DIMENSION, api_key=os.environ.get("QDRANT_API_KEY"))


def vector(*values: float) -> np.ndarray:
    full = np.array([*values, *[0.0] * (DIMENSION - len(values))], np.float32)
    return full / np.linalg.norm(full)


def picture(recipe: Recipe, number: int, **changes: object) -> Picture:
    return Picture(recipe=replace(recipe, seed=number, **changes), created=100.0 + number, seconds=1.0)


def test_an_added_picture_is_found_by_key_and_by_meaning(index, recipe):
    kept = picture(recipe, 1, guidance_scale=7.3)
    index.add(kept, vector(1, 0.2))
    assert index.get(kept.key) == kept
    [found] = index.find_candidates(vector(1, 0.2), kept.recipe, "shared", 5)
    assert (found.key, found.prompt) == (kept.key, recipe.prompt)
    assert to_indexed_picture(found.payload) == IndexedPicture(kept)
    assert found.cosine == pytest.approx(1, abs=0.02)


def test_adding_a_picture_twice_keeps_one_point(index, recipe):
    for _ in range(2):
        index.add(picture(recipe, 1), vector(1))
    assert index.count() == 1


def test_the_nearest_candidates_come_first(index, recipe):
    pictures = [picture(recipe, number) for number in range(3)]
    for kept, y in zip(pictures, (0.9, 0.1, 0.5), strict=True):
        index.add(kept, vector(1, y))
    found = index.find_candidates(vector(1, 0), recipe, "shared", 2)
    assert [one.key for one in found] == [pictures[1].key, pictures[2].key]
    assert found[0].cosine > found[1].cosine


@pytest.mark.parametrize(
    "change",
    [{"steps": 19}, {"sampler": "ddim"}, {"schedule": "karras"}, {"mode": "reproducible"}, {"prompt": "a cat"}],
)
def test_a_picture_serves_requests_for_fewer_steps_or_another_sampler(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert len(index.find_candidates(vector(1), replace(recipe, **change), "shared", 5)) == 1


def test_pictures_that_start_from_a_picture_are_counted(index, recipe):
    started = [picture(recipe, number, init_image="a" * 32) for number in range(2)]
    for kept in (*started, picture(recipe, 3, init_image="b" * 32), picture(recipe, 4)):
        index.add(kept, vector(1))
    assert index.count_by_init_image("a" * 32, "shared") == 2 and index.count_by_init_image("a" * 32, "another") == 0
    assert index.count_by_init_image("a" * 32, "shared", [started[0].key]) == 1


def test_paintings_under_way_are_found_apart_from_pictures(index, recipe):
    pending, painting = open_sibling(index, PendingPaintings, "pending"), uuid.uuid4().hex
    pending.add(painting, recipe, "alice", vector(1, 0.2))
    index.add(picture(recipe, 1), vector(1))
    [found] = pending.find_candidates(vector(1, 0.2), recipe, "alice", 5)
    assert (found.key, found.prompt) == (painting, recipe.prompt) and found.cosine == pytest.approx(1, abs=0.02)
    assert pending.find_candidates(vector(1), recipe, "shared", 5) == []
    assert pending.find_candidates(vector(1), replace(recipe, width=128), "alice", 5) == []
    assert index.count() == 1 and len(index.newest("alice", 5, None)) == 0
    pending.remove(painting)
    pending.remove(painting)
    assert pending.count() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "r2"},
        {"adapter": "lora"},
        {"negative_prompt": "blurry"},
        {"width": 128},
        {"height": 128},
        {"steps": 21},
        {"guidance_scale": 5.5},
    ],
)
def test_a_picture_with_different_settings_is_no_candidate(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert index.find_candidates(vector(1), replace(recipe, **change), "shared", 5) == []
    assert len(index.find_candidates(vector(1), recipe, "shared", 5)) == 1


def test_near_pictures_with_too_few_steps_do_not_hide_one_with_enough(index, recipe):
    for number in range(4):
        index.add(picture(recipe, number, steps=recipe.steps - 5), vector(1))
    enough = picture(recipe, 9)
    index.add(enough, vector(1, 0.5))
    assert [one.key for one in index.find_candidates(vector(1), recipe, "shared", 2)] == [enough.key]


def test_a_picture_of_another_scope_is_no_candidate(index, recipe):
    index.add(replace(picture(recipe, 1), scope="alice"), vector(1))
    assert index.find_candidates(vector(1), recipe, "shared", 5) == []
    assert index.newest_for_wish(recipe, "shared") is None
    assert index.newest("shared", 5, None) == []


def test_a_picture_that_was_seen_is_not_found_again(index, recipe):
    pictures = [picture(recipe, number) for number in (1, 2, 3)]
    for one in pictures:
        index.add(one, vector(1))
    seen = {pictures[2].key, pictures[0].key}
    assert [one.key for one in index.find_candidates(vector(1), recipe, "shared", 5, seen)] == [pictures[1].key]
    newest = index.newest_for_wish(recipe, "shared", seen)
    assert newest is not None and newest.picture.recipe.seed == 2
    assert index.newest_for_wish(recipe, "shared", {one.key for one in pictures}) is None


def test_a_picture_is_marked_wrong_for_its_own_prompts_only(index, recipe):
    kept, other = picture(recipe, 1), picture(recipe, 2)
    index.add(kept, vector(1), ["a wolf"])
    index.add(other, vector(1))
    index.mark_wrong(other.key, ["a dog", "a cat"])
    candidates = index.find_candidates(vector(1), recipe, "shared", 5)
    wrong_for = {one.key: tuple(one.payload["wrong_for"]) for one in candidates}
    assert wrong_for == {kept.key: ("a wolf",), other.key: ("a dog", "a cat")}
    index.mark_wrong("ab" * 16, ["a forgotten picture"])
    assert index.count() == 2


def test_a_wish_is_answered_with_its_newest_picture(index, recipe):
    for number in (1, 3, 2):
        index.add(picture(recipe, number), vector(1))
    index.add(picture(recipe, 9, prompt="a blue fox"), vector(1))
    newest = index.newest_for_wish(recipe, "shared")
    assert newest is not None and newest.picture.recipe.seed == 3
    assert index.newest_for_wish(replace(recipe, prompt="no such"), "shared") is None


def test_all_pictures_are_paged_newest_first(index, recipe):
    for number in (4, 1, 3, 0, 2):
        index.add(picture(recipe, number), vector(1))
    pages, before = [], None
    while page := index.newest("shared", 2, before):
        pages.append([p.recipe.seed for p in page])
        before = page[-1].created
    assert pages == [[4, 3], [2, 1], [0]]


def test_removing_a_picture_twice_is_no_error(index, recipe):
    kept = picture(recipe, 1)
    index.add(kept, vector(1))
    index.remove(kept.key)
    index.remove(kept.key)
    assert index.get(kept.key) is None and index.count() == 0


def test_two_clients_may_create_the_collection_at_once(index, recipe):
    other = Index(index.client, index.collection, index.dimension)
    other.is_created = index.is_created = False
    index.add(picture(recipe, 1), vector(1))
    assert other.count() == 1


def test_an_unreachable_server_makes_the_index_unavailable(unused_port, recipe):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", DIMENSION)
    for call in (index.count, lambda: index.get("0" * 32), lambda: index.add(picture(recipe, 1), vector(1))):
        with pytest.raises(Unavailable, match="index"):
            call()


def test_a_wrong_api_key_makes_the_index_unavailable(index_server):
    index = open_index(index_server.url, "pictures", DIMENSION, api_key="wrong")
    with pytest.raises(Unavailable, match="refused"):
        index.count()


def test_a_dropped_collection_is_created_again(index_server, recipe):
    index = open_index(index_server.url, f"test-{uuid.uuid4().hex}", DIMENSION, api_key=index_server.key)
    index.add(picture(recipe, 1), vector(1))
    index.client.delete_collection(index.collection)
    with pytest.raises(Unavailable):
        index.count()
    assert index.count() == 0


@pytest.fixture(params=["memory", "embedded"])
def by(request, tmp_path):
    """The pictures of an embedder, by its name and width, in an index of our own."""
    if request.param == "memory":
        client = open_client("memory:", None)
        yield lambda name, dimension=DIMENSION: Index(client, f"pictures-{name}", dimension)
        return
    with own_server(tmp_path / "index") as (url, key):
        yield lambda name, dimension=DIMENSION: open_index(url, f"pictures-{name}", dimension, api_key=key)


Open = Callable[..., Index]


def test_what_another_embedder_filled_is_refused_with_both_names_the_number_and_the_command(by: Open, recipe):
    old, new = by("old"), by("new", 16)
    for number in range(3):
        old.add(picture(recipe, number), vector(1))
    for call in (new.check_embedder, new.count, lambda: new.newest("shared", 1, None)):
        with pytest.raises(OtherEmbedder) as refused:
            call()
    for part in ("3 pictures of the embedder 'old' (vectors of 8)", "'new' (vectors of 16)", "`memoaized reindex`"):
        assert part in str(refused.value)
    assert "pictures-new" not in [found.name for found in old.client.get_collections().collections]
    assert by("old").count() == 3


def test_another_embedder_counts_as_bad_setup_and_as_unavailable(by: Open, recipe):
    by("old").add(picture(recipe, 1), vector(1))
    for kind in (BadSetup, Unavailable):
        with pytest.raises(kind):
            by("new").count()


def test_another_embedders_labels_alone_are_refused_too(by: Open):
    said = Label(key="k", remembered="a fox", wanted="a wolf", right=False, source="user", created=1.0)
    open_sibling(by("old"), Labels, "labels").add(said, vector(1))
    with pytest.raises(OtherEmbedder, match="1 label of the embedder 'old'"):
        by("new").check_embedder()


def test_another_embedders_empty_collection_does_not_matter(by: Open, recipe):
    assert by("old").count() == 0
    by("new").add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="1 picture of the embedder 'new'"):
        by("old").count()


def test_the_same_embedder_name_with_another_dimension_is_refused(by: Open, recipe):
    by("same").add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="1 picture of .* 'same' .vectors of 8.*, but .* 'same' .vectors of 16"):
        by("same", 16).count()


def test_sibling_collections_of_another_dimension_are_refused(by: Open):
    open_sibling(by("same"), PendingPaintings, "pending").count()
    with pytest.raises(OtherEmbedder, match="holds vectors of 8 numbers, .* now gives 16: .*`memoaized reindex`"):
        open_sibling(by("same", 16), PendingPaintings, "pending").count()


def test_an_index_without_embedder_records_is_accepted(by: Open, recipe):
    before = by("old")
    before.add(picture(recipe, 1), vector(1))
    before.client.delete_collection(RECORDS)
    by("old").check_embedder()
    assert by("old").count() == 1


def test_pictures_of_an_older_version_are_refused_until_they_are_reindexed(by: Open, recipe):
    before, kept = by("old"), picture(recipe, 1)
    before.add(kept, vector(1))
    before.client.overwrite_payload(before.collection, {"prompt": "a fox"}, [str(uuid.UUID(kept.key))], wait=True)
    with pytest.raises(OtherEmbedder, match="an older version wrote 1 pictures .*`memoaized reindex`"):
        by("old").check_embedder()
    again = by("old")
    again.recreate()
    again.add(kept, vector(1))
    by("old").check_embedder()


def test_without_records_the_pictures_of_two_embedders_are_both_refused(by: Open, recipe):
    for index in (by("old"), by("new")):
        index.recreate()
        index.add(picture(recipe, 1), vector(1))
    for name in ("old", "new"):
        with pytest.raises(OtherEmbedder):
            by(name).check_embedder()


def test_a_new_embedder_is_refused_until_reindexing_ends_and_the_old_one_is_not(by: Open, recipe):
    old, new = by("old"), by("new")
    old.add(picture(recipe, 1), vector(1))
    new.begin_reindex()
    new.recreate()
    new.add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="did not finish"):
        by("new").count()
    by("old").check_embedder()
    assert [str(one) for one in new.finish_reindex()] == ["1 picture of the embedder 'old' (vectors of 8)"]
    assert by("new").count() == 1
    with pytest.raises(OtherEmbedder, match="1 picture of the embedder 'new'"):
        by("old").count()


def test_an_index_that_is_down_at_the_start_is_checked_on_first_use(unused_port):
    open_index(f"http://127.0.0.1:{unused_port}", "pictures-new", DIMENSION).check_embedder()


def test_every_key_is_listed_once(by: Open, recipe, monkeypatch):
    monkeypatch.setattr("memo.points.PAGE", 2)
    index, pictures = by("any"), [picture(recipe, number) for number in range(5)]
    index.add_all(pictures, np.stack([vector(1)] * 5))
    assert sorted(index.keys()) == sorted(one.key for one in pictures)


@pytest.mark.parametrize("url", ["", "qdrant:6333", "file:/tmp/x"])
def test_an_unknown_index_is_refused(url):
    with pytest.raises(BadSetup):
        open_index(url, "pictures", DIMENSION)
