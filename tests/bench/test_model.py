"""The model bench: rendered pictures, their metrics, its prompts and its classifier."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from bench.model import BenchOptions, drop_known_words, format_table, measure
from bench.pictures import metrics, prompts, renders
from bench.pictures.background_colour import background_colour
from bench.pictures.classifier import WHOLE, Scores
from bench.pictures.classifier_training import TrainingOptions, open_classifier
from bench.pictures.prompts import PicturePrompt
from tests.tiny_model import write_tiny_model
from training.scenes.concepts import CONCEPTS
from training.scenes.places import COLOURS, PLACES
from worker.stickers.sprites import Sprite, open_bank, write_bank

HUES = {"zig": (255, 0, 255), "zag": (0, 255, 255), "zog": (0, 90, 0)}
NATURAL = {"zig": "pink", "zag": "blue", "zog": "green"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory) -> Path:
    """Three made-up drawings of one pure colour each."""
    folder = tmp_path_factory.mktemp("bank")
    sprites = [Sprite(name, (name,), (NATURAL[name],)) for name in HUES]
    blocks = {name: Image.new("RGBA", (40, 40), hue) for name, hue in HUES.items()}
    write_bank(folder, sprites, {"3d": blocks}, side=40)
    return folder


@pytest.fixture
def composer(drawings):
    return renders.open_composer(open_bank(drawings))


class HueClassifier:
    """A classifier that never confuses the three things."""

    def score_boxes(self, pictures, boxes):
        parts = [crop(picture, box) for picture, box in zip(pictures, boxes, strict=True)]
        things = np.array([[count_pixels(part, hue) for hue in HUES.values()] for part in parts])
        return Scores(things, *(np.zeros((len(parts), choices)) for choices in (4, len(PLACES) + 1, len(COLOURS))))


def crop(picture, box):
    return picture.crop(tuple(part * picture.width for part in box))


def count_pixels(picture, hue) -> int:
    """Count the pixels of nearly this colour."""
    return int((np.abs(np.asarray(picture, int) - hue).max(2) < 40).sum())


def render_all(composer, picture_prompts):
    return [renders.render(composer, prompt, Random(row)) for row, prompt in enumerate(picture_prompts)]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_rendered_background_has_the_colour_of_the_prompt(composer, colour):
    pictures = render_all(composer, [PicturePrompt("", (row % 3,), background=colour) for row in range(30)])
    assert [background_colour(picture) for picture in pictures] == [colour] * 30


def test_a_border_of_many_colours_is_no_background_colour():
    stripes = np.zeros((120, 120, 3), np.uint8)
    for row, colour in enumerate(("red", "green", "blue")):
        stripes[40 * row : 40 * row + 40] = COLOURS[colour]
    assert background_colour(Image.fromarray(stripes)) == ""


def test_only_a_prompt_for_the_thing_in_the_picture_is_correct(composer):
    picture_prompts = list(islice(prompts.concepts(composer.sprites, Random(1)), 6))
    others = [replace(prompt, things=((prompt.things[0] + 1) % 3,)) for prompt in picture_prompts]
    pictures = render_all(composer, picture_prompts)
    assert metrics.concept(HueClassifier(), picture_prompts, pictures) == {"concept_top1": 1, "concept_top5": 1}
    assert metrics.concept(HueClassifier(), others, pictures)["concept_top1"] == 0


@pytest.mark.parametrize("relation", prompts.RELATIONS)
def test_a_relation_is_wrong_with_swapped_things(composer, relation):
    picture_prompts = [PicturePrompt("", (row % 3, (row + 1) % 3), relation=relation) for row in range(12)]
    swapped = [replace(prompt, things=prompt.things[::-1]) for prompt in picture_prompts]
    pictures = render_all(composer, picture_prompts)
    assert metrics.relation(HueClassifier(), picture_prompts, pictures)["relation"] == 1
    assert metrics.relation(HueClassifier(), swapped, pictures)["relation"] == 0


def test_two_copies_of_one_thing_are_not_a_correct_pair(composer):
    picture_prompts = [PicturePrompt("", (0, 1), relation="above")] * 5
    pictures = render_all(composer, [PicturePrompt("", (0, 0), relation="above")] * 5)
    assert metrics.relation(HueClassifier(), picture_prompts, pictures)["relation"] == 0


def test_horizontal_and_vertical_relations_are_counted_separately(composer):
    picture_prompts = [
        PicturePrompt("", (0, 1), relation="to the left of"),
        PicturePrompt("", (0, 1), relation="above"),
    ]
    pictures = render_all(composer, [picture_prompts[0], PicturePrompt("", (1, 0), relation="above")])
    figures = metrics.relation(HueClassifier(), picture_prompts, pictures)
    assert (figures["left_right"], figures["above_below"], figures["relation"]) == (1, 0, 0.5)


def test_the_same_picture_every_time_has_no_diversity(composer):
    picture_prompts = [PicturePrompt("a zig", (0,))] * 4
    pictures = render_all(composer, picture_prompts)
    assert metrics.diversity(picture_prompts, [pictures[0]] * 4, pictures) == 0
    assert metrics.diversity(picture_prompts, pictures, pictures) == 1


def test_diversity_compares_pictures_of_the_same_prompt_only(composer):
    picture_prompts = [PicturePrompt("a zig", (0,)), PicturePrompt("a zag", (1,))] * 2
    zig, zag = render_all(composer, picture_prompts[:2])
    assert metrics.spread(picture_prompts, [zig, zag, zig, zag]) == 0


def test_unseen_words_occur_in_no_name_of_the_bank():
    names = [line.partition(" ")[2].partition(";")[0] for line in CONCEPTS.strip().splitlines()]
    sprites = [Sprite(names[row], tuple(map(str.strip, names[row].split("|")))) for row in range(len(names))]
    picture_prompts = prompts.list_prompts("unseen", sprites[:200], 1000)
    assert len(picture_prompts) >= 40
    assert list(drop_known_words(picture_prompts, sprites)) == picture_prompts


def test_words_of_the_bank_are_known_in_singular_and_plural():
    bank = (Sprite("1", ("dog", "space rocket")),)
    assert prompts.known_words("my two dogs", bank) == {"dogs"}
    assert prompts.known_words("a Space shuttle", bank) == {"space"}
    assert prompts.known_words("a pooch", bank) == set()


def test_prompts_are_always_the_same_and_a_shorter_list_is_a_prefix(composer):
    for kind in prompts.KINDS:
        assert prompts.list_prompts(kind, composer.sprites, 9) == prompts.list_prompts(kind, composer.sprites, 20)[:9]


def test_every_nth_row_is_held_out():
    assert prompts.held_out_rows(200, 90) == (89, 179)
    assert prompts.held_out_rows(200, 0) == ()


def test_the_classifier_learns_from_renders_and_is_saved(composer, tmp_path):
    training = TrainingOptions(renders=200, steps=20, batch=16, tests=60)
    classifier, accuracy = open_classifier(composer, tmp_path, training)
    reopened, reopened_accuracy = open_classifier(composer, tmp_path, training)
    assert accuracy == reopened_accuracy
    assert accuracy["thing"] > 0.8
    pictures = render_all(composer, [PicturePrompt("", (row,)) for row in range(3)])
    assert np.array_equal(
        classifier.score_boxes(pictures, [WHOLE] * 3).thing, reopened.score_boxes(pictures, [WHOLE] * 3).thing
    )


def test_a_run_reports_every_figure(drawings, tmp_path, monkeypatch):
    monkeypatch.setattr(renders, "TRAINING_BANK", drawings)
    write_tiny_model(tmp_path)
    training = TrainingOptions(renders=8, steps=2, batch=4, tests=8)
    options = BenchOptions(
        models=tmp_path, settings={"steps": 2}, per_kind=1, timed=1, threads=1, training=training, folder=tmp_path
    )
    figures = measure(options)
    quality = set(
        "concept_top1 concept_top5 background place colour count relation left_right above_below pair_top1 diversity "
        "unseen_words held_out_top1 held_out_top5".split()
    )
    assert set(figures["ceiling"]) == quality
    heads = {f"classifier_{head}" for head in ("thing", "count", "place", "colour")}
    assert set(figures) == quality | heads | {"ceiling", "seconds_256", "peak_memory_mb", "pictures"}
    assert figures["ceiling"]["background"] == 1
    assert figures["peak_memory_mb"] > 100
    assert all(name in format_table(figures) for name in quality)
