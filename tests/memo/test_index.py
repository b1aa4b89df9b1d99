"""One contract for the index: Qdrant's client in memory, the embedded server, and a real server when one is given."""

import os
import uuid
from dataclasses import replace

import numpy as np
import pytest

from memo import BadSetup, Picture, Recipe, Unavailable
from memo.index import Index, Pending, beside, open_index

WIDTH = 8


@pytest.fixture(params=["memory", "embedded", "server"])
def index(request) -> Index:
    name = f"test-{uuid.uuid4().hex}"
    if request.param == "memory":
        return open_index("memory:", name, WIDTH)
    if request.param == "embedded":
        server = request.getfixturevalue("index_server")
        return open_index(server.url, name, WIDTH, api_key=server.key)
    if "QDRANT_URL" not in os.environ:
        pytest.skip("QDRANT_URL names no Qdrant server")
    return open_index(os.environ["QDRANT_URL"], name, WIDTH, api_key=os.environ.get("QDRANT_API_KEY"))


def vector(*values: float) -> np.ndarray:
    full = np.array([*values, *[0.0] * (WIDTH - len(values))], np.float32)
    return full / np.linalg.norm(full)


def picture(recipe: Recipe, number: int, **changes: object) -> Picture:
    return Picture(recipe=replace(recipe, seed=number, **changes), created=100.0 + number, seconds=1.0)


def test_what_was_added_is_found_by_key_and_by_meaning(index, recipe):
    kept = picture(recipe, 1, guidance_scale=7.3)
    index.add(kept, vector(1, 0.2))
    assert index.get(kept.key) == kept
    [(cosine, found)] = index.nearest(vector(1, 0.2), kept.recipe, "shared", 5)
    assert found == kept and cosine == pytest.approx(1, abs=1e-5)


def test_adding_twice_is_adding_once(index, recipe):
    for _ in range(2):
        index.add(picture(recipe, 1), vector(1))
    assert index.count() == 1


def test_the_nearest_come_first(index, recipe):
    for number, y in enumerate((0.9, 0.1, 0.5)):
        index.add(picture(recipe, number), vector(1, y))
    found = index.nearest(vector(1, 0), recipe, "shared", 2)
    assert [p.recipe.seed for _, p in found] == [1, 2]
    assert found[0][0] > found[1][0]


@pytest.mark.parametrize(
    "change",
    [{"steps": 19}, {"sampler": "ddim"}, {"schedule": "karras"}, {"mode": "reproducible"}, {"prompt": "a cat"}],
)
def test_a_picture_serves_fewer_steps_and_another_way_of_painting(index, recipe, change):
    index.add(picture(recipe, 1), vector(1))
    assert len(index.nearest(vector(1), replace(recipe, **change), "shared", 5)) == 1


def test_what_is_under_way_is_found_beside_the_pictures_and_not_among_them(index, recipe):
    pending, painting = beside(index, Pending, "pending"), uuid.uuid4().hex
    pending.add(painting, recipe, "alice", vector(1, 0.2))
    index.add(picture(recipe, 1), vector(1))
    [(cosine, found, prompt)] = pending.nearest(vector(1, 0.2), recipe, "alice", 5)
    assert (found, prompt) == (painting, recipe.prompt) and cosine == pytest.approx(1, abs=1e-5)
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


def test_a_picture_of_another_scope_is_no_candidate(index, recipe):
    index.add(replace(picture(recipe, 1), scope="alice"), vector(1))
    assert index.nearest(vector(1), recipe, "shared", 5) == []
    assert index.granted(recipe, "shared") is None
    assert index.newest("shared", 5, None) == []


def test_a_wish_is_granted_by_its_newest_picture(index, recipe):
    for number in (1, 3, 2):
        index.add(picture(recipe, number), vector(1))
    index.add(picture(recipe, 9, prompt="a blue fox"), vector(1))
    granted = index.granted(recipe, "shared")
    assert granted is not None and granted.recipe.seed == 3
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
    other = Index(index.client, index.collection, index.width)
    other.made = index.made = False
    index.add(picture(recipe, 1), vector(1))
    assert other.count() == 1


def test_a_server_that_is_not_there_is_said(unused_port, recipe):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", WIDTH)
    for call in (index.count, lambda: index.get("0" * 32), lambda: index.add(picture(recipe, 1), vector(1))):
        with pytest.raises(Unavailable, match="index"):
            call()


def test_a_wrong_key_is_said(index_server):
    index = open_index(index_server.url, "pictures", WIDTH, api_key="wrong")
    with pytest.raises(Unavailable, match="refused"):
        index.count()


def test_a_collection_that_was_dropped_is_made_again(index_server, recipe):
    index = open_index(index_server.url, f"test-{uuid.uuid4().hex}", WIDTH, api_key=index_server.key)
    index.add(picture(recipe, 1), vector(1))
    index.client.delete_collection(index.collection)
    with pytest.raises(Unavailable):
        index.count()
    assert index.count() == 0


@pytest.mark.parametrize("url", ["", "qdrant:6333", "file:/tmp/x"])
def test_an_unknown_index_is_refused(url):
    with pytest.raises(BadSetup):
        open_index(url, "pictures", WIDTH)
