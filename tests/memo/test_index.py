"""One contract for the index: Qdrant's client in memory, the embedded server, and a real server when one is given."""

import os
import uuid
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from memo import BadSetup, Picture, Recipe, Unavailable
from memo.errors import OtherEmbedder
from memo.index import RECORDS, Index, IndexedPicture, Labels, Pending, beside, open_client, open_index
from memo.judge.feedback import Label
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


def test_what_was_added_is_found_by_key_and_by_meaning(index, recipe):
    kept = picture(recipe, 1, guidance_scale=7.3)
    index.add(kept, vector(1, 0.2))
    assert index.get(kept.key) == kept
    [found] = index.nearest(vector(1, 0.2), kept.recipe, "shared", 5)
    assert (found.key, found.prompt, found.found) == (kept.key, recipe.prompt, IndexedPicture(kept))
    assert found.cosine == pytest.approx(1, abs=0.02)


def test_adding_twice_is_adding_once(index, recipe):
    for _ in range(2):
        index.add(picture(recipe, 1), vector(1))
    assert index.count() == 1


def test_the_nearest_come_first(index, recipe):
    pictures = [picture(recipe, number) for number in range(3)]
    for kept, y in zip(pictures, (0.9, 0.1, 0.5), strict=True):
        index.add(kept, vector(1, y))
    found = index.nearest(vector(1, 0), recipe, "shared", 2)
    assert [one.key for one in found] == [pictures[1].key, pictures[2].key]
    assert found[0].cosine > found[1].cosine


@pytest.mark.parametrize(
    "change",
    [{"steps": 19}, {"sampler": "ddim"}, {"schedule": "karras"}, {"mode": "reproducible"}, {"prompt": "a cat"}],
)
def test_a_picture_serves_fewer_steps_and_another_way_of_painting(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert len(index.nearest(vector(1), replace(recipe, **change), "shared", 5)) == 1


def test_what_was_started_from_a_picture_is_counted(index, recipe):
    begun = [picture(recipe, number, init_image="a" * 32) for number in range(2)]
    for kept in (*begun, picture(recipe, 3, init_image="b" * 32), picture(recipe, 4)):
        index.add(kept, vector(1))
    assert index.count_started_from("a" * 32, "shared") == 2 and index.count_started_from("a" * 32, "another") == 0
    assert index.count_started_from("a" * 32, "shared", [begun[0].key]) == 1


def test_what_is_under_way_is_found_beside_the_pictures_and_not_among_them(index, recipe):
    pending, painting = beside(index, Pending, "pending"), uuid.uuid4().hex
    pending.add(painting, recipe, "alice", vector(1, 0.2))
    index.add(picture(recipe, 1), vector(1))
    [found] = pending.nearest(vector(1, 0.2), recipe, "alice", 5)
    assert (found.key, found.prompt) == (painting, recipe.prompt) and found.cosine == pytest.approx(1, abs=0.02)
    assert pending.nearest(vector(1), recipe, "shared", 5) == []
    assert pending.nearest(vector(1), replace(recipe, width=128), "alice", 5) == []
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
def test_a_picture_with_other_settings_is_no_candidate(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert index.nearest(vector(1), replace(recipe, **change), "shared", 5) == []
    assert len(index.nearest(vector(1), recipe, "shared", 5)) == 1


def test_too_few_steps_among_the_nearest_hide_no_picture_with_enough(index, recipe):
    for number in range(4):
        index.add(picture(recipe, number, steps=recipe.steps - 5), vector(1))
    enough = picture(recipe, 9)
    index.add(enough, vector(1, 0.5))
    assert [one.key for one in index.nearest(vector(1), recipe, "shared", 2)] == [enough.key]


def test_a_picture_of_another_scope_is_no_candidate(index, recipe):
    index.add(replace(picture(recipe, 1), scope="alice"), vector(1))
    assert index.nearest(vector(1), recipe, "shared", 5) == []
    assert index.granted(recipe, "shared") is None
    assert index.newest("shared", 5, None) == []


def test_what_was_seen_is_neither_near_nor_granted(index, recipe):
    pictures = [picture(recipe, number) for number in (1, 2, 3)]
    for one in pictures:
        index.add(one, vector(1))
    seen = {pictures[2].key, pictures[0].key}
    assert [one.key for one in index.nearest(vector(1), recipe, "shared", 5, seen)] == [pictures[1].key]
    granted = index.granted(recipe, "shared", seen)
    assert granted is not None and granted.picture.recipe.seed == 2
    assert index.granted(recipe, "shared", {one.key for one in pictures}) is None


def test_accusations_stay_with_their_picture(index, recipe):
    kept, other = picture(recipe, 1), picture(recipe, 2)
    index.add(kept, vector(1), ["a wolf"])
    index.add(other, vector(1))
    index.accuse(other.key, ["a dog", "a cat"])
    found = {one.key: one.found.wrong for one in index.nearest(vector(1), recipe, "shared", 5)}
    assert found == {kept.key: ("a wolf",), other.key: ("a dog", "a cat")}
    index.accuse("ab" * 16, ["a picture that is gone"])
    assert index.count() == 2


def test_a_wish_is_granted_by_its_newest_picture(index, recipe):
    for number in (1, 3, 2):
        index.add(picture(recipe, number), vector(1))
    index.add(picture(recipe, 9, prompt="a blue fox"), vector(1))
    granted = index.granted(recipe, "shared")
    assert granted is not None and granted.picture.recipe.seed == 3
    assert index.granted(replace(recipe, prompt="no such"), "shared") is None


def test_the_gallery_pages_through_everything_newest_first(index, recipe):
    for number in (4, 1, 3, 0, 2):
        index.add(picture(recipe, number), vector(1))
    pages, before = [], None
    while page := index.newest("shared", 2, before):
        pages.append([p.recipe.seed for p in page])
        before = page[-1].created
    assert pages == [[4, 3], [2, 1], [0]]


def test_what_was_removed_is_gone_and_removing_again_is_no_error(index, recipe):
    kept = picture(recipe, 1)
    index.add(kept, vector(1))
    index.remove(kept.key)
    index.remove(kept.key)
    assert index.get(kept.key) is None and index.count() == 0


def test_two_clients_may_make_the_collection_at_once(index, recipe):
    other = Index(index.client, index.collection, index.dimension)
    other.made = index.made = False
    index.add(picture(recipe, 1), vector(1))
    assert other.count() == 1


def test_a_server_that_is_not_there_is_said(unused_port, recipe):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", DIMENSION)
    for call in (index.count, lambda: index.get("0" * 32), lambda: index.add(picture(recipe, 1), vector(1))):
        with pytest.raises(Unavailable, match="index"):
            call()


def test_a_wrong_key_is_said(index_server):
    index = open_index(index_server.url, "pictures", DIMENSION, api_key="wrong")
    with pytest.raises(Unavailable, match="refused"):
        index.count()


def test_a_collection_that_was_dropped_is_made_again(index_server, recipe):
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


def test_a_refusal_stops_a_start_and_is_waited_out_by_what_runs(by: Open, recipe):
    by("old").add(picture(recipe, 1), vector(1))
    for kind in (BadSetup, Unavailable):
        with pytest.raises(kind):
            by("new").count()


def test_labels_alone_are_enough_to_be_refused(by: Open):
    said = Label(key="k", remembered="a fox", wanted="a wolf", right=False, source="user", created=1.0)
    beside(by("old"), Labels, "labels").add(said, vector(1))
    with pytest.raises(OtherEmbedder, match="1 label of the embedder 'old'"):
        by("new").check_embedder()


def test_what_another_embedder_left_empty_hinders_nobody(by: Open, recipe):
    assert by("old").count() == 0
    by("new").add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="1 picture of the embedder 'new'"):
        by("old").count()


def test_the_same_name_with_another_width_is_refused(by: Open, recipe):
    by("same").add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="1 picture of .* 'same' .vectors of 8.*, but .* 'same' .vectors of 16"):
        by("same", 16).count()


def test_labels_and_paintings_of_another_width_are_refused(by: Open):
    beside(by("same"), Pending, "pending").count()
    with pytest.raises(OtherEmbedder, match="holds vectors of 8 numbers, .* now gives 16: .*`memoaized reindex`"):
        beside(by("same", 16), Pending, "pending").count()


def test_an_index_from_before_there_were_records_is_taken_over(by: Open, recipe):
    before = by("old")
    before.add(picture(recipe, 1), vector(1))
    before.client.delete_collection(RECORDS)
    by("old").check_embedder()
    assert by("old").count() == 1


def test_pictures_without_a_name_for_their_settings_are_refused_until_they_are_written_anew(by: Open, recipe):
    before, kept = by("old"), picture(recipe, 1)
    before.add(kept, vector(1))
    before.client.overwrite_payload(before.collection, {"prompt": "a fox"}, [str(uuid.UUID(kept.key))], wait=True)
    with pytest.raises(OtherEmbedder, match="an older version wrote 1 pictures .*`memoaized reindex`"):
        by("old").check_embedder()
    again = by("old")
    again.renew()
    again.add(kept, vector(1))
    by("old").check_embedder()


def test_two_embedders_from_before_there_were_records_are_refused_both(by: Open, recipe):
    for index in (by("old"), by("new")):
        index.renew()
        index.add(picture(recipe, 1), vector(1))
    for name in ("old", "new"):
        with pytest.raises(OtherEmbedder):
            by(name).check_embedder()


def test_who_re_embeds_is_refused_until_the_end_and_the_one_before_is_not(by: Open, recipe):
    old, new = by("old"), by("new")
    old.add(picture(recipe, 1), vector(1))
    new.begin()
    new.renew()
    new.add(picture(recipe, 1), vector(1))
    with pytest.raises(OtherEmbedder, match="not re-embedded to the end"):
        by("new").count()
    by("old").check_embedder()
    assert [str(one) for one in new.adopt()] == ["1 picture of the embedder 'old' (vectors of 8)"]
    assert by("new").count() == 1
    with pytest.raises(OtherEmbedder, match="1 picture of the embedder 'new'"):
        by("old").count()


def test_an_index_that_is_down_at_the_start_is_asked_on_first_use(unused_port):
    open_index(f"http://127.0.0.1:{unused_port}", "pictures-new", DIMENSION).check_embedder()


def test_every_key_is_named_once(by: Open, recipe, monkeypatch):
    monkeypatch.setattr("memo.index.PAGE", 2)
    index, pictures = by("any"), [picture(recipe, number) for number in range(5)]
    index.add_all(pictures, np.stack([vector(1)] * 5))
    assert sorted(index.keys()) == sorted(one.key for one in pictures)


@pytest.mark.parametrize("url", ["", "qdrant:6333", "file:/tmp/x"])
def test_an_unknown_index_is_refused(url):
    with pytest.raises(BadSetup):
        open_index(url, "pictures", DIMENSION)
