"""Where a plan places the drawings of a composition."""

from random import Random

import pytest

from worker.stickers.layout import CANVASES, MAX_DRAWINGS, Placement, draw_layout
from worker.stickers.plan import GROUPS, RELATIONS, SYNONYMS, TOGETHER, Composition, limit_counts, place_drawings


def places(placements):
    return [(placement.thing, placement.canvas, placement.place) for placement in placements]


@pytest.mark.parametrize(("size", "canvas"), [("", "one"), ("huge", "big"), ("tiny", "tiny")])
def test_one_thing_stands_alone_at_its_size(size, canvas):
    assert place_drawings(Composition((1,), size=size), Random(1)) == (Placement(0, canvas, 0),)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_as_many_drawings_are_placed_as_the_prompt_names(count):
    plans = {place_drawings(Composition((count,)), Random(seed)) for seed in range(50)}
    assert {len(plan) for plan in plans} == {count}
    assert len(plans) == len(set(GROUPS[count]))


def test_a_relation_decides_which_thing_stands_where():
    assert places(place_drawings(Composition((1, 1), "left of"), Random(1))) == [(0, "sides", 0), (1, "sides", 1)]
    assert places(place_drawings(Composition((1, 1), "right of"), Random(1))) == [(0, "sides", 1), (1, "sides", 0)]
    assert places(place_drawings(Composition((1, 1), "above"), Random(1))) == [(0, "stack", 0), (1, "stack", 1)]
    assert places(place_drawings(Composition((1, 1), "under"), Random(1))) == [(0, "stack", 1), (1, "stack", 0)]


@pytest.mark.parametrize(
    ("counts", "limited"),
    [
        ((), ()),
        ((1,), (1,)),
        ((9,), (4,)),
        ((1, 5), (1, 3)),
        ((3, 3), (3, 1)),
        ((2, 2, 2), (2, 1, 1)),
        ((1,) * 6, (1,) * 4),
    ],
)
def test_drawings_beyond_four_are_dropped(counts, limited):
    assert limit_counts(counts) == limited
    assert len(place_drawings(Composition(counts), Random(1))) == sum(limited) <= MAX_DRAWINGS


@pytest.mark.parametrize("counts", TOGETHER)
def test_drawings_never_overlap(counts):
    layout, cells = draw_layout(Random(4)), []
    for placement in place_drawings(Composition(counts), Random(1)):
        x, y = layout.corners(placement.canvas)[placement.place]
        size = CANVASES[placement.canvas].size
        cells += [(x + i, y + j) for i in range(size) for j in range(size)]
    shared = len(cells) - len(set(cells))
    assert shared <= 0.08 * len(cells)  # the stack and the quarters are shifted separately, by at most a cell


def test_every_synonym_means_a_known_relation():
    assert set(SYNONYMS.values()) <= set(RELATIONS)
