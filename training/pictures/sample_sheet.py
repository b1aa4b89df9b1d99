"""Paint a sheet of sample pictures with a packed model, each with its prompt below it."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw

from jobs.models import Catalogue
from training.knobs import from_arguments
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

log = logging.getLogger(__name__)

PROMPTS = """
a red fox in the snow
two kittens on the grass
my cute little hound
a spaceship among the stars
a purple unicorn on a yellow background
three red apples
a house at night
a penguin on the beach
a blue dragon in a forest
a yellow taxi in the city
a bear and a balloon
a robot next to a heart
a sunflower in a field
birthday cake, black background
a boat at sea in the evening
an owl in the woods at night
a tiny mouse under a huge moon
a cup of coffee on a brown background
four butterflies
a cactus in the desert
a snowman in winter
a green apple to the left of a banana
a turtle under water
a castle at sunset
a puppy in the rain
flat icon of a rocket
a slice of pizza, please
a white horse on a meadow
a ghost in a dark forest
a mushroom on an orange background
an airplane in the clouds
the moon
a pooch with a ball
a pink elephant
a guitar above a drum
a whale in the ocean
a lorry on a street
a happy frog on green
two yellow ducks
a crown on a purple background
an octopus under water
a bunny in the snow
a bike next to a tree
a cartoon of a lion
a bee above a flower
a rainbow in the sky
three blue balloons
a train in the desert
a lemon and a strawberry
a teddy bear at night
an astronaut in space
a camera on white
a black cat on a red background
a tulip in the rain
a hamburger on the beach
a book below a lamp
a golden key
a huge strawberry
a cat, a dog and a bird
a pumpkin in a field
a monkey in the jungle
an umbrella in the rain
two cups of tea
a small green car
""".strip().splitlines()
STRIP = 24  # px below each picture for its prompt, in two lines


@dataclass(frozen=True)
class Knobs:
    """Model, settings and output; sizes in px. Zero steps or guidance means the default of the model."""

    models: Path = Path("models")
    model: str = "stickers"
    out: Path = Path("var/train/gallery.png")
    painted: int = 256  # side at which the pictures are painted
    shown: int = 128  # side at which the sheet shows them
    steps: int = 0
    guidance_scale: float = 0.0
    seed: int = 7
    columns: int = 8
    threads: int = 2


def paint(knobs: Knobs) -> Path:
    """Paint all prompts one by one, as the worker would; returns the path of the sheet."""
    catalogue = Catalogue(knobs.models)
    painter = open_painter(catalogue.model(knobs.model), PainterOptions(knobs.threads, device="cpu"))
    settings = {"model": knobs.model, "seed": knobs.seed, "width": knobs.painted, "height": knobs.painted}
    settings |= {"steps": knobs.steps} if knobs.steps else {}
    settings |= {"guidance_scale": knobs.guidance_scale} if knobs.guidance_scale else {}
    started = time.perf_counter()
    pictures = [painter(catalogue.recipe({**settings, "prompt": prompt}), lambda step: None) for prompt in PROMPTS]
    log.info("%.2f s per picture", (time.perf_counter() - started) / len(PROMPTS))
    knobs.out.parent.mkdir(parents=True, exist_ok=True)
    make_sheet(pictures, knobs.columns, knobs.shown).save(knobs.out, optimize=True)
    return knobs.out


def make_sheet(pictures: list[Image.Image], columns: int, side: int) -> Image.Image:
    """The pictures in rows of `columns`, each `side` px square with its prompt below it."""
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * (side + STRIP)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, prompt) in enumerate(zip(pictures, PROMPTS, strict=True)):
        x, y = number % columns * side, number // columns * (side + STRIP)
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        pen.text((x + 2, y + side + 2), "\n".join(wrap(prompt, side * 28 // 128)), fill="black", font_size=8)
    return sheet


if __name__ == "__main__":
    paint(from_arguments(Knobs, __doc__))
