from random import Random

import numpy as np
import pytest
from PIL import Image

from worker.train.places import COLOURS, PLACES, coloured, draw_place
from worker.train.scenes import Studio, describe, in_colour
from worker.train.tint import tint

from .conftest import CYAN, MAGENTA


@pytest.fixture
def studio(art):
    return Studio(art, side=64)


def test_one_seed_draws_one_scene(studio):
    first, again = studio.scene(Random(7)), studio.scene(Random(7))
    assert first[1] == again[1]
    assert np.array_equal(first[0], again[0])


def test_other_seeds_draw_other_scenes(studio):
    random = Random(7)
    assert len({studio.scene(random)[0].tobytes() for _ in range(20)}) == 20


def test_every_caption_names_a_thing(studio):
    random = Random(3)
    captions = [studio.scene(random)[1] for _ in range(200)]
    assert all("zig" in caption or "zag" in caption for caption in captions)


@pytest.mark.parametrize(("words", "axis"), [("left of", 1), ("right of", 1), ("above", 0), ("below", 0)])
def test_relations_are_true(studio, words, axis):
    picture, caption = next(said(studio.pair, words))
    magenta, cyan = centre(picture, MAGENTA)[axis], centre(picture, CYAN)[axis]
    zig_first = caption.index("zig") < caption.index("zag")
    first, second = (magenta, cyan) if zig_first else (cyan, magenta)
    assert first < second if words in ("left of", "above") else first > second


@pytest.mark.parametrize(("word", "count"), [("two", 2), ("three", 3), ("four", 4)])
def test_counts_are_true(studio, word, count):
    picture, _ = next(said(studio.group, f"{word} zigs"))
    one = next(said(studio.group, "two zigs"))[0]
    single = (np.asarray(one) == MAGENTA).all(-1).sum() / 2
    assert (np.asarray(picture) == MAGENTA).all(-1).sum() / single == pytest.approx(count, rel=0.35)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_coloured_background_has_its_colour(colour):
    middle = np.asarray(coloured(Random(1), 16, colour))[8, 8]
    nearest = min(COLOURS, key=lambda name: float(np.abs(middle - np.array(COLOURS[name], float)).sum()))
    assert nearest == colour


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_drawn_anew_each_time(name):
    random = Random(1)
    first, second = draw_place(name, random, 32), draw_place(name, random, 32)
    assert first.size == (32, 32)
    assert first.tobytes() != second.tobytes()


def test_a_caption_says_where_the_thing_is(studio):
    random = Random(5)
    background = studio.somewhere(random)
    said_there = describe(random, "zig", background)
    assert background.suffix in said_there and background.adjective in said_there


def test_a_tinted_drawing_keeps_its_shape_and_takes_the_colour():
    red = np.full((4, 4, 4), (220, 40, 40, 255), np.uint8)
    red[0, :, 3] = 0
    blue = tint(red, "blue", natural="red")
    assert (blue[..., 3] == red[..., 3]).all()
    assert blue[2, 2, 2] > 2 * blue[2, 2, 0]


def test_tinting_spares_the_other_colours():
    picture = np.full((4, 8, 4), (220, 40, 40, 255), np.uint8)
    picture[:, 6:] = (40, 90, 220, 255)
    assert (tint(picture, "green", natural="red")[:, 6:] == picture[:, 6:]).all()


def test_a_new_colour_replaces_the_one_in_the_name():
    assert in_colour("red apple", "blue") == "blue apple"
    assert in_colour("top hat", "blue") == "blue top hat"


def said(kind, words):
    """Scenes of a kind whose caption holds the words and no place, so that colours are pure."""
    for seed in range(2000):
        picture, caption = kind(Random(seed))
        assert isinstance(picture, Image.Image)
        if words in caption and not any(phrase in caption for place in PLACES.values() for phrase in place.phrases):
            yield picture, caption


def centre(picture, colour):
    return np.argwhere((np.asarray(picture) == colour).all(-1)).mean(0)
