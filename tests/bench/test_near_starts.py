"""The bench of near starts: its pairs of scenes, and the figures of its rows."""

from itertools import islice
from random import Random

import pytest

from bench.pictures.near_pairs import changes_of, list_pairs
from bench.pictures.near_starts import NOISE, TABLE, Row, format_figures, summarize
from tests.real import ROOT
from worker.stickers.sprites import open_bank

FIELDS = {"thing": "things", "second thing": "things", "count": "count", "colour": "colour", "relation": "relation"}


@pytest.fixture(scope="module")
def pairs():
    sprites = open_bank(ROOT / "models" / "stickers" / "sprites").sprites[:200]
    return list(islice(list_pairs(sprites, Random(3)), 200))


def test_pairs_differ_in_one_to_four_points(pairs):
    assert [len(pair.changed) for pair in pairs[:8]] == [1, 2, 3, 4, 1, 2, 3, 4]
    for pair in pairs:
        assert pair.remembered.text != pair.wanted.text and set(pair.changed) <= set(changes_of(pair.wanted))


def test_nothing_but_the_named_points_changes(pairs):
    for pair in pairs:
        old, new = pair.remembered, pair.wanted
        same = {
            field for field in ("things", "count", "colour", "relation") if getattr(old, field) == getattr(new, field)
        }
        assert same == {"things", "count", "colour", "relation"} - {FIELDS.get(point) for point in pair.changed}
        assert ((old.place, old.background) == (new.place, new.background)) == ("background" not in pair.changed)


def test_every_scene_says_where_it_is_and_no_more_than_it_has(pairs):
    for scene in (scene for pair in pairs for scene in (pair.remembered, pair.wanted)):
        assert bool(scene.place) != bool(scene.background)
        assert len(scene.things) == len(set(scene.things)) == (2 if scene.relation else 1)
        assert scene.count == 1 or not scene.relation


def row(share: float, noise: bool, near: bool) -> Row:
    correct = {NOISE: {"concept": noise, "background": True}, TABLE: {"concept": near, "background": True}}
    return Row("a fox", "a cat", ["thing"], share, {NOISE: 0, TABLE: 6 if share > 2 else 0}, correct)


def test_the_figures_are_changes_in_points_by_share():
    figures = summarize([row(2.6, True, False), row(2.9, True, True), row(0.5, False, True), row(0.9, True, True)])
    assert figures["all"]["pairs"] == 4 and figures["all"][TABLE]["skipped"] == 3
    assert (figures["all"][TABLE]["concept"], figures["all"][TABLE]["concept_change"]) == (75.0, 0.0)
    shared = figures["share 2.5 to 3.0"]
    assert shared["pairs"] == 2 and shared[TABLE]["concept_change"] == -50.0
    assert shared[TABLE]["background_change"] == 0.0 and "count" not in shared[TABLE]
    assert "concept 50.0 (-50.0)  background 100.0 (+0.0)" in format_figures(figures)
