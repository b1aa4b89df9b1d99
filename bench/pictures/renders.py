"""Real renders of the bench's prompts, from the drawings that training scenes are made of."""

from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from memo import BadSetup
from training.scenes.compose import Background, Draft, SceneComposer
from training.scenes.places import PLACES, draw_coloured, draw_place, draw_plain
from worker.stickers.layout import draw_layout
from worker.stickers.plan import GROUPS, RELATIONS
from worker.stickers.sprites import INDEX, Bank, open_bank

from .prompts import PicturePrompt

THINGS = 200  # from the start of the bank, where the most common ones are
STYLE = "3d"  # the style of a prompt that names none
SIDE = 128  # px, the native size of the models
TRAINING_BANK = Path("var/train/bank")


def open_drawings(model: Path) -> Bank:
    """The bank of a model, else the training bank; raises BadSetup with the command that makes a bank."""
    for folder in (model / "sprites", TRAINING_BANK):
        if (folder / INDEX).exists():
            return open_bank(folder)
    raise BadSetup(
        f"no drawings in {model / 'sprites'} or {TRAINING_BANK}; make them with python -m training.scenes.art"
    )


def open_composer(bank: Bank) -> SceneComposer:
    """A composer for the most common things."""
    return SceneComposer(bank, bank.sprites[:THINGS], (STYLE,), SIDE)


def render(composer: SceneComposer, prompt: PicturePrompt, random: Random) -> Image.Image:
    """Render a prompt; everything that it leaves open is random, as in training, mirroring included."""
    draft = Draft(
        random, draw_background(prompt, random, composer.side), draw_layout(random), random.choice(composer.styles)
    )
    draft.things = tuple(composer.sprites[row] for row in prompt.things)
    for thing, canvas, place in list_placements(prompt, random):
        composer.paste(draft, thing, canvas, place, prompt.colour)
    may_mirror = not prompt.relation and all(thing.turns for thing in draft.things)
    picture = draft.background.picture
    return ImageOps.mirror(picture) if may_mirror and random.random() < 0.5 else picture


def draw_background(prompt: PicturePrompt, random: Random, side: int) -> Background:
    """The place or colour in the prompt, else a plain background."""
    if prompt.background:
        return Background(draw_coloured(random, side, prompt.background))
    if not prompt.place:
        return Background(draw_plain(random, side))
    place = PLACES[prompt.place]
    return Background(draw_place(prompt.place, random, side), horizon=place.horizon, light=place.light)


def list_placements(prompt: PicturePrompt, random: Random) -> list[tuple[int, str, int]]:
    """The (thing, canvas, place) of each drawing."""
    if prompt.relation:
        canvas, first, second = RELATIONS[prompt.relation]
        return [(0, canvas, first), (1, canvas, second)]
    if prompt.count > 1:
        return [(0, canvas, place) for canvas, place in random.choice(GROUPS[prompt.count])]
    return [(0, prompt.canvas, 0)]
