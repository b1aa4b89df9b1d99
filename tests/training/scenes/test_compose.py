"""Composed scenes: what a caption says is true of the picture."""

import re
from random import Random

import numpy as np
import pytest

from tests.sticker_bank import CYAN, MAGENTA
from training.captioned_pictures import open_captioned_pictures
from training.pictures.dataset import SHEETS
from training.scenes import compose
from training.scenes.compose import Draft, SceneComposer, in_colour, write_caption
from training.scenes.places import COLOURS, PLACES, draw_coloured, draw_place
from training.scenes.tint import tint
from worker.stickers.layout import CANVASES
from worker.stickers.nouns import plural
from worker.stickers.plan import BIG, RELATIONS, TINY

NUMBERS = {"two": 2, "three": 3, "four": 4}
BACKGROUNDS = ("white", "black", "brown", "yellow", "red", "green", "orange")  # far from magenta and cyan


@pytest.fixture(scope="module")
def composer(bank):
    return SceneComposer(bank, bank.sprites[:2], ("3d",), side=128)


def test_the_same_seed_draws_the_same_scene(composer):
    first, second = composer.draw_scene(Random(7)), composer.draw_scene(Random(7))
    assert first.caption == second.caption and first.layout == second.layout
    assert np.array_equal(first.picture, second.picture)


def test_different_seeds_draw_different_scenes(composer):
    random = Random(7)
    assert len({composer.draw_scene(random).picture.tobytes() for _ in range(20)}) == 20


def test_a_caption_names_the_things_on_the_sheet(composer):
    scenes = [scene for scene in (composer.draw_scene(Random(seed)) for seed in range(300)) if scene.things]
    named = [
        all(
            any(name in scene.caption or plural(name) in scene.caption for name in thing.names)
            for thing in scene.things
        )
        for scene in scenes
    ]
    assert sum(named) / len(named) > 0.95  # a typo may hide a name


def find_scene(composer, kind, *wordings):
    """Find an untinted scene whose caption has one of the wordings, on a background far from magenta and cyan."""
    for seed in range(4000):
        scene = composer.draw_kind(kind, Random(seed))
        has_background = any(f" on a {colour} background" in scene.caption for colour in BACKGROUNDS)
        has_wording = any(wording in f" {scene.caption} " for wording in wordings)
        if has_wording and has_background and not any(f"{colour} z" in scene.caption for colour in COLOURS):
            return scene
    raise AssertionError(f"no scene with {wordings}")


def find_pixels(scene, colour):
    """Find the (row, column) of each pixel of nearly this colour."""
    return np.argwhere(np.abs(scene.picture.astype(int) - colour).max(-1) < 40)


@pytest.mark.parametrize("words", [words for words in RELATIONS if words not in ("and", "with", "beside", "next to")])
def test_the_relation_in_a_caption_is_true_of_the_picture(composer, words):
    scene = find_scene(composer, composer.draw_pair, f" {words} ")
    (y1, x1), (y2, x2) = (find_pixels(scene, colour).mean(0) for colour in (MAGENTA, CYAN))
    if scene.caption.index("zig") > scene.caption.index("zag"):
        y1, x1, y2, x2 = y2, x2, y1, x1
    if "left" in words or "right" in words:
        assert abs(x1 - x2) > 30 and (x1 < x2) == ("left" in words)
    else:
        assert abs(y1 - y2) > 30 and (y1 < y2) == (words in ("above", "over", "on top of"))


@pytest.mark.parametrize(("word", "count"), NUMBERS.items())
def test_the_count_in_a_caption_is_true_of_the_picture(composer, word, count):
    scene = find_scene(composer, composer.draw_group, f" {word} zigs ")
    side = 7 * 8 - 6  # px; of a drawing in a place of seven cells
    assert len(find_pixels(scene, MAGENTA)) / side**2 == pytest.approx(count, rel=0.15)


@pytest.mark.parametrize(("words", "size"), [(BIG, 15), (TINY, 5)])
def test_the_size_in_a_caption_is_true_of_the_picture(composer, words, size):
    scene = find_scene(composer, composer.draw_single, *(f" {word} zig " for word in words))
    assert np.sqrt(len(find_pixels(scene, MAGENTA))) == pytest.approx(8 * size - 6, rel=0.12)


def test_drawings_stand_where_the_plan_says(composer):
    scene = find_scene(composer, composer.draw_group, " two zigs ")
    pixels = {(int(x), int(y)) for y, x in find_pixels(scene, MAGENTA)}
    for placement in scene.plan:
        x, y = scene.layout.corners(placement.canvas)[placement.place]
        middle = (
            round(8 * (x + CANVASES[placement.canvas].size / 2)),
            round(8 * (y + CANVASES[placement.canvas].size / 2)),
        )
        assert placement.thing == 0 and middle in pixels
    assert len(scene.plan) == 2


def test_written_scenes_have_pictures_and_sheets(bank, tmp_path):
    knobs = compose.Knobs(
        bank=bank.folder, out=tmp_path, count=16, side=64, styles=("3d", "flat"), held_out=3, processes=1
    )
    pairs, sheets = open_captioned_pictures(compose.write_scenes(knobs)), np.load(tmp_path / SHEETS)
    assert pairs.images.shape == (16, 64, 64, 3)
    assert sheets["things"].shape == (16, 4) and sheets["things"].max() == 1  # the third thing is held out
    assert sheets["plans"].shape == (16, 4, 3) and sheets["plans"].max() <= len(CANVASES)
    assert sheets["shifts"].shape == (16, len(CANVASES), 2) and set(sheets["styles"].tolist()) == {0, 1}


def test_the_article_agrees_with_the_next_word(composer):
    captions = [composer.draw_kind(composer.draw_tinted_single, Random(seed)).caption for seed in range(300)]
    assert any("an orange background" in caption for caption in captions)
    assert not [caption for caption in captions if re.search(r"\b(a [aeio]|an [^aeio])", caption)]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_coloured_background_has_the_named_colour(colour):
    middle = np.asarray(draw_coloured(Random(1), 16, colour))[8, 8]
    nearest = min(COLOURS, key=lambda name: float(np.abs(middle - np.array(COLOURS[name], float)).sum()))
    assert nearest == colour


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_drawn_differently_each_time(name):
    random = Random(1)
    first, second = draw_place(name, random, 32), draw_place(name, random, 32)
    assert first.size == (32, 32)
    assert first.tobytes() != second.tobytes()


def test_a_caption_names_the_place(composer):
    random = Random(5)
    background = composer.draw_random_place(random)
    caption = write_caption(Draft(random, background, composer.draw_scene(random).layout, "3d"), "zig")
    assert background.suffix in caption and background.adjective in caption


def test_a_tinted_drawing_keeps_its_shape_and_takes_the_colour():
    red = np.full((4, 4, 4), (220, 40, 40, 255), np.uint8)
    red[0, :, 3] = 0
    blue = tint(red, "blue", natural="red")
    assert (blue[..., 3] == red[..., 3]).all()
    assert blue[2, 2, 2] > 2 * blue[2, 2, 0]


def test_tinting_keeps_the_other_colours():
    picture = np.full((4, 8, 4), (220, 40, 40, 255), np.uint8)
    picture[:, 6:] = (40, 90, 220, 255)
    assert (tint(picture, "green", natural="red")[:, 6:] == picture[:, 6:]).all()


def test_a_new_colour_replaces_the_one_in_the_name():
    assert in_colour("red apple", "blue") == "blue apple"
    assert in_colour("top hat", "blue") == "blue top hat"
