"""The places of a sheet: where they lie, and how seeds shift them."""

from random import Random

import pytest

from worker.stickers.layout import CANVASES, GRID, draw_layout


@pytest.mark.parametrize("name", CANVASES)
def test_every_place_lies_inside_the_sheet_at_any_shift(name):
    size = CANVASES[name].size
    for seed in range(200):
        for x, y in draw_layout(Random(seed)).corners(name):
            assert 0 <= x <= GRID - size and 0 <= y <= GRID - size


@pytest.mark.parametrize("name", CANVASES)
def test_places_of_a_canvas_do_not_overlap(name):
    size, corners = CANVASES[name].size, CANVASES[name].corners
    cells = [(x + i, y + j) for x, y in corners for i in range(size) for j in range(size)]
    assert len(cells) == len(set(cells))


def test_the_same_seed_gives_the_same_layout_and_others_differ():
    assert draw_layout(Random(3)) == draw_layout(Random(3))
    assert len({draw_layout(Random(seed)) for seed in range(50)}) > 30
