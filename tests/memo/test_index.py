"""The contract of the index, run in memory, on the embedded server, and on the Qdrant server at QDRANT_URL if set."""

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from memo import BadSetup, Picture, Recipe, Unavailable
from memo.errors import OtherEmbedder
from memo.index import (
    EMBEDDER_RECORDS,
    Index,
    IndexedPicture,
    Labels,
    PendingPaintings,
    open_index,
    open_sibling,
    to_indexed_picture,
)
from memo.judge.feedback import Label
from memo.picture import NearStart
from memo.points import open_client
from memoaized.reindex import serve_index

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
    added = picture(recipe, 1, guidance_scale=7.3)
    index.add(added, vector(1, 0.2))
    assert index.get(added.key) == added
    [candidate] = index.find_candidates(vector(1, 0.2), added.recipe, "shared", 5)
    assert (candidate.key, candidate.prompt) == (added.key, recipe.prompt)
    assert to_indexed_picture(candidate.payload) == IndexedPicture(added)
    assert candidate.cosine == pytest.approx(1, abs=0.02)


def test_a_near_picture_is_a_candidate_for_those_who_chose_no_initial_picture(index, recipe):
    near = NearStart(picture="ab" * 16, share=2.41, steps_saved=8)
    added = replace(picture(recipe, 1, init_image="cd" * 16, strength=0.625), near=near)
    index.add(added, vector(1))
    assert index.get(added.key) == index.newest_for_wish(recipe, "shared").picture == added
    [candidate] = index.find_candidates(vector(1), recipe, "shared", 5)
    assert to_indexed_picture(candidate.payload) == IndexedPicture(added)
    assert index.find_candidates(vector(1), added.recipe, "shared", 5) == []
    assert index.count_by_init_image("cd" * 16, "shared") == 1


def test_adding_a_picture_twice_keeps_one_point(index, recipe):
    for _ in range(2):
        index.add(picture(recipe, 1), vector(1))
    assert index.count() == 1


def test_the_nearest_candidates_come_first(index, recipe):
    pictures = [picture(recipe, number) for number in range(3)]
    for added, y in zip(pictures, (0.9, 0.1, 0.5), strict=True):
        index.add(added, vector(1, y))
    candidates = index.find_candidates(vector(1, 0), recipe, "shared", 2)
    assert [candidate.key for candidate in candidates] == [pictures[1].key, pictures[2].key]
    assert candidates[0].cosine > candidates[1].cosine


@pytest.mark.parametrize(
    "change",
    [{"steps": 19}, {"sampler": "ddim"}, {"schedule": "karras"}, {"prompt": "a cat"}],
)
def test_a_picture_serves_requests_for_fewer_steps_or_another_sampler(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert len(index.find_candidates(vector(1), replace(recipe, **change), "shared", 5)) == 1


def test_pictures_are_counted_by_their_initial_image(index, recipe):
    from_a = [picture(recipe, number, init_image="a" * 32) for number in range(2)]
    for added in (*from_a, picture(recipe, 3, init_image="b" * 32), picture(recipe, 4)):
        index.add(added, vector(1))
    assert index.count_by_init_image("a" * 32, "shared") == 2 and index.count_by_init_image("a" * 32, "another") == 0
    assert index.count_by_init_image("a" * 32, "shared", [from_a[0].key]) == 1


def test_paintings_under_way_are_listed_apart_from_pictures(index, recipe):
    pending, painting = open_sibling(index, PendingPaintings, "pending"), uuid.uuid4().hex
    pending.add(painting, recipe, "alice", vector(1, 0.2))
    index.add(picture(recipe, 1), vector(1))
    [candidate] = pending.find_candidates(vector(1, 0.2), recipe, "alice", 5)
    assert (candidate.key, candidate.prompt) == (painting, recipe.prompt)
    assert candidate.cosine == pytest.approx(1, abs=0.02)
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
def test_a_picture_with_different_settings_is_not_a_candidate(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert index.find_candidates(vector(1), replace(recipe, **change), "shared", 5) == []
    assert len(index.find_candidates(vector(1), recipe, "shared", 5)) == 1


def test_near_pictures_with_too_few_steps_do_not_hide_one_with_enough(index, recipe):
    for number in range(4):
        index.add(picture(recipe, number, steps=recipe.steps - 5), vector(1))
    enough = picture(recipe, 9)
    index.add(enough, vector(1, 0.5))
    assert [candidate.key for candidate in index.find_candidates(vector(1), recipe, "shared", 2)] == [enough.key]


def test_a_picture_of_another_scope_is_not_a_candidate(index, recipe):
    index.add(replace(picture(recipe, 1), scope="alice"), vector(1))
    assert index.find_candidates(vector(1), recipe, "shared", 5) == []
    assert index.newest_for_wish(recipe, "shared") is None
    assert index.newest("shared", 5, None) == []


def test_a_picture_that_the_user_has_seen_is_not_found_again(index, recipe):
    pictures = [picture(recipe, number) for number in (1, 2, 3)]
    for added in pictures:
        index.add(added, vector(1))
    seen = {pictures[2].key, pictures[0].key}
    [candidate] = index.find_candidates(vector(1), recipe, "shared", 5, seen)
    assert candidate.key == pictures[1].key
    newest = index.newest_for_wish(recipe, "shared", seen)
    assert newest is not None and newest.picture.recipe.seed == 2
    assert index.newest_for_wish(recipe, "shared", {added.key for added in pictures}) is None


def test_each_picture_has_its_own_prompts_that_it_is_wrong_for(index, recipe):
    first, second = picture(recipe, 1), picture(recipe, 2)
    index.add(first, vector(1), ["a wolf"])
    index.add(second, vector(1))
    index.mark_wrong(second.key, ["a dog", "a cat"])
    candidates = index.find_candidates(vector(1), recipe, "shared", 5)
    wrong_for = {candidate.key: tuple(candidate.payload["wrong_for"]) for candidate in candidates}
    assert wrong_for == {first.key: ("a wolf",), second.key: ("a dog", "a cat")}
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


def test_removing_a_picture_twice_is_not_an_error(index, recipe):
    added = picture(recipe, 1)
    index.add(added, vector(1))
    index.remove(added.key)
    index.remove(added.key)
    assert index.get(added.key) is None and index.count() == 0


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


def test_an_error_of_the_index_does_not_quote_its_answer(index_server, recipe):
    index = open_index(index_server.url, "pictures", DIMENSION, api_key="wrong")
    with pytest.raises(Unavailable) as error:
        index.newest("shared", 1, None)
    assert str(error.value) == "the index refused the request: it answered 401"


def test_the_check_of_the_index_searches_and_asks_the_server(index_server, monkeypatch):
    index = open_index(index_server.url, f"test-{uuid.uuid4().hex}", DIMENSION, api_key=index_server.key)
    pool, send, calls = index.rest.pool, index.rest.pool.urlopen, []
    monkeypatch.setattr(pool, "urlopen", lambda *sent, **more: calls.append(sent[:2]) or send(*sent, **more))
    index.check()
    assert calls == [("POST", f"/collections/{index.collection}/points/query"), ("GET", "/readyz")]


def test_a_dropped_collection_is_created_again(index_server, recipe):
    index = open_index(index_server.url, f"test-{uuid.uuid4().hex}", DIMENSION, api_key=index_server.key)
    index.add(picture(recipe, 1), vector(1))
    index.client.delete_collection(index.collection)
    with pytest.raises(Unavailable):
        index.count()
    assert index.count() == 0


@pytest.fixture(params=["memory", "embedded"])
def index_of(request, tmp_path):
    """Open the collection of an embedder, by its name and dimension, in an index that starts empty."""
    if request.param == "memory":
        client = open_client("memory:", None)
        yield lambda name, dimension=DIMENSION: Index(client, f"pictures-{name}", dimension)
        return
    with serve_index(tmp_path / "index") as (url, key):
        yield lambda name, dimension=DIMENSION: open_index(url, f"pictures-{name}", dimension, api_key=key)


OpenIndex = Callable[..., Index]


def test_an_index_of_another_embedder_is_refused_with_names_count_and_command(index_of: OpenIndex, recipe):
    old, new = index_of("old"), index_of("new", 16)
    for number in range(3):
        old.add(picture(recipe, number), vector(1))
    for call in (new.check_embedder, new.count, lambda: new.newest("shared", 1, None)):
        with pytest.raises(OtherEmbedder) as refused:
            call()
    for part in ("3 pictures of the embedder 'old' (dimension 8)", "'new' (dimension 16)", "`memoaized reindex`"):
        assert part in str(refused.value)
    assert "pictures-new" not in [collection.name for collection in old.client.get_collections().collections]
    assert index_of("old").count() == 3


def test_another_embedder_counts_as_bad_setup_and_as_unavailable(index_of: OpenIndex, recipe):
    index_of("old").add(picture(recipe, 1), vector(1))
    for kind in (BadSetup, Unavailable):
        with pytest.raises(kind):
            index_of("new").count()


def test_an_index_with_only_labels_of_another_embedder_is_refused_too(index_of: OpenIndex):
    label = Label(key="k", remembered="a fox", wanted="a wolf", right=False, source="user", created=1.0)
    open_sibling(index_of("old"), Labels, "labels").add(label, vector(1))
    with pytest.raises(OtherEmbedder, match="1 label of the embedder 'old'"):
        index_of("new").check_embedder()


def test_another_embedders_empty_collection_does_not_matter(index_of: OpenIndex, recipe):
    assert index_of("old").count() == 0
    index_of("new").add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="1 picture of the embedder 'new'"):
        index_of("old").count()


def test_the_same_embedder_name_with_another_dimension_is_refused(index_of: OpenIndex, recipe):
    index_of("same").add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="1 picture of .* 'same' .dimension 8.*, but .* 'same' .dimension 16"):
        index_of("same", 16).count()


def test_sibling_collections_of_another_dimension_are_refused(index_of: OpenIndex):
    open_sibling(index_of("same"), PendingPaintings, "pending").count()
    with pytest.raises(OtherEmbedder, match="vectors of dimension 8, .* now has dimension 16: .*`memoaized reindex`"):
        open_sibling(index_of("same", 16), PendingPaintings, "pending").count()


def test_an_index_without_embedder_records_is_accepted(index_of: OpenIndex, recipe):
    old = index_of("old")
    old.add(picture(recipe, 1), vector(1))
    old.client.delete_collection(EMBEDDER_RECORDS)
    index_of("old").check_embedder()
    assert index_of("old").count() == 1


def test_pictures_of_an_older_version_are_refused_until_they_are_reindexed(index_of: OpenIndex, recipe):
    old, added = index_of("old"), picture(recipe, 1)
    old.add(added, vector(1))
    old.client.overwrite_payload(old.collection, {"prompt": "a fox"}, [str(uuid.UUID(added.key))], wait=True)
    with pytest.raises(OtherEmbedder, match="an older version of memoAIzed wrote 1 pictures .*`memoaized reindex`"):
        index_of("old").check_embedder()
    rebuilt = index_of("old")
    rebuilt.recreate()
    rebuilt.add(added, vector(1))
    index_of("old").check_embedder()


def test_without_records_the_pictures_of_two_embedders_are_both_refused(index_of: OpenIndex, recipe):
    for index in (index_of("old"), index_of("new")):
        index.recreate()
        index.add(picture(recipe, 1), vector(1))
    for name in ("old", "new"):
        with pytest.raises(OtherEmbedder):
            index_of(name).check_embedder()


def test_until_reindexing_ends_the_new_embedder_is_refused_and_the_old_one_is_accepted(index_of: OpenIndex, recipe):
    old, new = index_of("old"), index_of("new")
    old.add(picture(recipe, 1), vector(1))
    new.begin_reindex()
    new.recreate()
    new.add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="did not finish"):
        index_of("new").count()
    index_of("old").check_embedder()
    [unused] = new.finish_reindex()
    assert str(unused) == "1 picture of the embedder 'old' (dimension 8)"
    assert index_of("new").count() == 1
    with pytest.raises(OtherEmbedder, match="1 picture of the embedder 'new'"):
        index_of("old").count()


def test_an_index_that_is_down_has_its_embedder_checked_on_first_use(index_of: OpenIndex, recipe, monkeypatch):
    index_of("old").add(picture(recipe, 1), vector(1))
    new = index_of("new")
    with monkeypatch.context() as outage:
        outage.setattr(new, "count", Mock(side_effect=Unavailable("down")))
        new.check_embedder()
    with pytest.raises(OtherEmbedder):
        new.add(picture(recipe, 2), vector(1))


def test_every_key_is_listed_once(index_of: OpenIndex, recipe, monkeypatch):
    monkeypatch.setattr("memo.points.PAGE", 2)
    index, pictures = index_of("any"), [picture(recipe, number) for number in range(5)]
    index.add_all(pictures, np.stack([vector(1)] * 5))
    assert sorted(index.keys()) == sorted(added.key for added in pictures)


@pytest.mark.parametrize("url", ["", "qdrant:6333", "file:/tmp/x"])
def test_an_unknown_index_is_refused(url):
    with pytest.raises(BadSetup):
        open_index(url, "pictures", DIMENSION)
