"""The dataset of a diffusion run: its sheets equal the worker's; its conditioning drops what is masked."""

from random import Random

import pytest
import torch

from training.pictures.dataset import PictureDataset, SpriteSheets
from worker.stickers.layout import CANVASES, SIZES, Layout, Placement, draw_layout
from worker.stickers.plan import Composition, place_drawings
from worker.stickers.sheet import lay_sheet

DEPTH = 5  # four latents and opacity


def draw_plan(row, random):
    return place_drawings(Composition((1,) * (row % 5)), random)


@pytest.fixture
def sheets():
    """Twelve sheets with none to four of six drawings."""
    random, generator = Random(1), torch.Generator().manual_seed(1)
    things = torch.full((12, 4), -1)
    for row in range(12):
        count = row % 5
        things[row, :count] = torch.tensor(random.sample(range(6), count), dtype=things.dtype)
    plans = torch.full((12, 4, 3), -1)
    for row in range(12):
        for number, placement in enumerate(draw_plan(row, random)):
            plans[row, number] = torch.tensor(
                (placement.thing, tuple(CANVASES).index(placement.canvas), placement.place)
            )
    shifts = torch.tensor([draw_layout(random).shifts for _ in range(12)])
    return SpriteSheets(
        things, plans, shifts, {size: torch.rand(6, DEPTH, size, size, generator=generator).half() for size in SIZES}
    )


def test_sheets_laid_out_together_equal_those_of_the_worker(sheets):
    batch = sheets.lay_out(torch.arange(12))
    for row in range(12):
        things = [
            {size: tiles[thing].numpy() for size, tiles in sheets.tiles.items()}
            for thing in sheets.things[row].tolist()
            if thing >= 0
        ]
        layout = Layout(tuple((across, down) for across, down in sheets.shifts[row].tolist()))
        plan = [
            Placement(thing, tuple(CANVASES)[canvas], place)
            for thing, canvas, place in sheets.plans[row].tolist()
            if thing >= 0
        ]
        assert torch.equal(batch[row], lay_sheet(things, plan, layout, DEPTH - 1)) and batch[row].any() == (
            row % 5 > 0
        )
    assert sheets.channels == batch.shape[1]


def test_dropped_captions_are_unconditional_and_dropped_sheets_empty(sheets):
    states, empty_caption = torch.rand(3, 24, 384).half(), torch.rand(24, 384).half()
    dataset = PictureDataset(torch.zeros(12, 4, 16, 16), torch.arange(12) % 3, states, empty_caption, (), sheets)
    rows = torch.tensor([4, 9])
    conditioning = dataset.conditioning(rows, torch.tensor([True, False]), torch.tensor([False, True]))
    assert torch.equal(conditioning.states[0], empty_caption.float()) and torch.equal(
        conditioning.states[1], states[0].float()
    )
    assert conditioning.sheets[0].any() and not conditioning.sheets[1].any()


def test_a_dropped_label_is_the_number_after_the_last_label():
    dataset = PictureDataset(torch.zeros(2, 4, 4, 4), torch.tensor([1, 0]), None, None, ("cat", "dog"), None)
    no_rows = torch.zeros(2, dtype=torch.bool)
    conditioning = dataset.conditioning(torch.tensor([0, 1]), torch.tensor([False, True]), no_rows)
    assert conditioning.labels.tolist() == [1, 2] and conditioning.states is None
