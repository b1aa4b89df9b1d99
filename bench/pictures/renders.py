"""Real renders of what is asked, from the drawings that training scenes are made of. Knows no models, no judges."""

from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from memo import BadSetup
from training.scenes.compose import Background, Draft, SceneComposer
from training.scenes.places import PLACES, coloured, draw_place, plain
from worker.stickers.layout import draw_layout
from worker.stickers.plan import GROUPS, RELATIONS
from worker.stickers.sprites import INDEX, Bank, open_bank

from .prompts import Ask

THINGS = 200  # from the beginning of the bank, where the commonest are
STYLE = "3d"  # what is painted when the prompt names no style
SIDE = 128  # px, the models' native size
MADE_BANK = Path("var/train/bank")


def open_drawings(model: Path) -> Bank:
    """A model's own bank, else the one made for training; raises BadSetup naming the command that makes that."""
    for folder in (model / "sprites", MADE_BANK):
        if (folder / INDEX).exists():
            return open_bank(folder)
    raise BadSetup(f"there are no drawings in {model / 'sprites'} or {MADE_BANK}: python -m training.scenes.art")


def open_composer(bank: Bank) -> SceneComposer:
    """A studio for the commonest things."""
    return SceneComposer(bank, bank.sprites[:THINGS], (STYLE,), SIDE)


def render(composer: SceneComposer, ask: Ask, random: Random) -> Image.Image:
    """One picture of what is asked; what is not asked is by chance, as in training: turned to the other side, too."""
    draft = Draft(random, backdrop(ask, random, composer.side), draw_layout(random), random.choice(composer.styles))
    draft.things = tuple(composer.sprites[row] for row in ask.things)
    for thing, canvas, place in setting(ask, random):
        composer.paste(draft, thing, canvas, place, ask.colour)
    turns = not ask.relation and all(thing.turns for thing in draft.things)
    return ImageOps.mirror(draft.background.picture) if turns and random.random() < 0.5 else draft.background.picture


def backdrop(ask: Ask, random: Random, side: int) -> Background:
    """The place or colour that is asked for, else a plain one."""
    if ask.background:
        return Background(coloured(random, side, ask.background))
    if not ask.place:
        return Background(plain(random, side))
    place = PLACES[ask.place]
    return Background(draw_place(ask.place, random, side), horizon=place.horizon, light=place.light)


def setting(ask: Ask, random: Random) -> list[tuple[int, str, int]]:
    """(thing, canvas, place) of each drawing."""
    if ask.relation:
        canvas, first, second = RELATIONS[ask.relation]
        return [(0, canvas, first), (1, canvas, second)]
    if ask.count > 1:
        return [(0, canvas, place) for canvas, place in random.choice(GROUPS[ask.count])]
    return [(0, ask.canvas, 0)]
