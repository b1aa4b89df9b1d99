from random import Random

import pytest

from worker.stickers.layout import CANVASES, DRAWN, Placement, draw_layout
from worker.stickers.plan import ALSO, GROUPS, RELATIONS, TOGETHER, Wish, fitting, plan


def places(steps):
    return [(step.thing, step.canvas, step.place) for step in steps]


@pytest.mark.parametrize(("size", "canvas"), [("", "one"), ("huge", "big"), ("tiny", "tiny")])
def test_one_thing_stands_alone_in_its_size(size, canvas):
    assert plan(Wish((1,), size=size), Random(1)) == (Placement(0, canvas, 0),)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_so_many_are_drawn_as_are_asked_for(count):
    ways = {plan(Wish((count,)), Random(seed)) for seed in range(50)}
    assert {len(way) for way in ways} == {count}
    assert len(ways) == len(set(GROUPS[count]))


def test_relations_put_the_first_where_it_belongs():
    assert places(plan(Wish((1, 1), "left of"), Random(1))) == [(0, "sides", 0), (1, "sides", 1)]
    assert places(plan(Wish((1, 1), "right of"), Random(1))) == [(0, "sides", 1), (1, "sides", 0)]
    assert places(plan(Wish((1, 1), "above"), Random(1))) == [(0, "stack", 0), (1, "stack", 1)]
    assert places(plan(Wish((1, 1), "under"), Random(1))) == [(0, "stack", 1), (1, "stack", 0)]


@pytest.mark.parametrize(
    ("wanted", "kept"),
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
def test_what_is_too_much_is_left_out(wanted, kept):
    assert fitting(wanted) == kept
    assert len(plan(Wish(wanted), Random(1))) == sum(kept) <= DRAWN


@pytest.mark.parametrize("counts", TOGETHER)
def test_drawings_never_overlap(counts):
    layout, cells = draw_layout(Random(4)), []
    for step in plan(Wish(counts), Random(1)):
        x, y = layout.corners(step.canvas)[step.place]
        size = CANVASES[step.canvas].size
        cells += [(x + i, y + j) for i in range(size) for j in range(size)]
    shared = len(cells) - len(set(cells))
    assert shared <= 0.08 * len(cells)  # a stack and quarters are shifted apart by at most a cell


def test_every_other_wording_is_a_known_relation():
    assert set(ALSO.values()) <= set(RELATIONS)
