"""A sheet of pictures by a packed model, each with its prompt below, through the stock pipeline. Trains nothing."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from worker.text import open_text_encoder

from .knobs import from_arguments

log = logging.getLogger(__name__)

PROMPTS = """
a red fox in the snow
three cats
a yellow car on a blue background
a house at night
a penguin on the beach
a blue dragon
two red apples
a rocket in space
a sunflower in a field
a robot next to a heart
a purple unicorn on a yellow background
a castle at sunset
a puppy in the rain
a slice of pizza
a green heart on a pink background
a tropical fish under water
my kitten in the garden
an owl in the forest at night
a boat at sea in the evening
birthday cake, black background
a picture of a turtle in the city
four butterflies
a bear and a balloon
a snowman in winter
a white horse on a meadow
a ghost in a dark forest
a mushroom on an orange background
an apple to the left of a star
a cactus in the desert
a red dragon in space
an airplane in the clouds
the moon
""".strip().splitlines()
STRIP = 24  # px below each picture for its prompt, in two lines


@dataclass(frozen=True)
class Knobs:
    """Which model paints, how, and where the sheet goes."""

    model: Path = Path("models/stickers")
    out: Path = Path("var/train/gallery.png")
    steps: int = 12
    guidance_scale: float = 3.0
    seed: int = 7
    columns: int = 8
    threads: int = 2


def paint(knobs: Knobs) -> Path:
    """Paint all prompts one by one as a visitor would ask for them; returns the sheet's path."""
    torch.set_num_threads(knobs.threads)
    pipeline = StableDiffusionPipeline.from_pretrained(
        knobs.model, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None
    )
    pipeline.set_progress_bar_config(disable=True)
    encode, started = open_text_encoder(), time.perf_counter()
    unconditional = encode([""])
    pictures = [
        pipeline(
            prompt_embeds=encode([prompt]),
            negative_prompt_embeds=unconditional,
            num_inference_steps=knobs.steps,
            guidance_scale=knobs.guidance_scale,
            generator=torch.Generator().manual_seed(knobs.seed),
        ).images[0]
        for prompt in PROMPTS
    ]
    log.info("%.2f s a picture", (time.perf_counter() - started) / len(PROMPTS))
    knobs.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures, knobs.columns).save(knobs.out, optimize=True)
    return knobs.out


def sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    """The pictures in rows, prompts below."""
    side = pictures[0].width
    whole = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * (side + STRIP)), "white")
    pen = ImageDraw.Draw(whole)
    for place, (picture, prompt) in enumerate(zip(pictures, PROMPTS, strict=True)):
        x, y = place % columns * side, place // columns * (side + STRIP)
        whole.paste(picture, (x, y))
        pen.text((x + 2, y + side + 2), "\n".join(wrap(prompt, 28)), fill="black", font_size=8)
    return whole


if __name__ == "__main__":
    paint(from_arguments(Knobs, __doc__))
