"""From a recipe to what the networks go by: token states, a class label, a sheet of drawings.

Two rows where guidance is asked for, the negative prompt's first; one otherwise. Knows no networks that paint.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memo import BadSetup, Recipe
from worker.engine.denoiser import Conditioning
from worker.engine.text_encoder import TextEncoder, open_text_encoder
from worker.stickers.layout import draw_layout
from worker.stickers.nouns import indefinite, plural
from worker.stickers.plan import plan
from worker.stickers.retrieve import Retrieved, Retriever, name_vectors
from worker.stickers.sheet import Tiles, encode_tiles, lay_sheet
from worker.stickers.sprites import Bank, Sprite, open_bank

Conditions = Callable[[Recipe], Conditioning]
BANK = "sprites"
FREE = 0.05  # of a drawing's longer side, the widest margin added on one side


class TextConditions:
    """Token states of both prompts."""

    def __init__(self, text: TextEncoder) -> None:
        self.text = text

    def __call__(self, recipe: Recipe) -> Conditioning:
        """States (2, 24, 384), or (1, 24, 384) where nothing is to be guided."""
        return Conditioning(self.text(prompts(recipe)))


class SheetConditions:
    """Token states, and the drawings that the prompt speaks of; the seed decides how they lie on the sheet."""

    def __init__(self, text: TextEncoder, retriever: Retriever, sheets: "SheetTiles") -> None:
        self.text, self.retriever, self.sheets = text, retriever, sheets

    def __call__(self, recipe: Recipe) -> Conditioning:
        """States as TextConditions, and the same sheet for each row."""
        found = self.retriever(recipe.prompt)
        *negative, prompt = prompts(recipe)
        states = self.text([*negative, without_own_colours(prompt, found.things)])
        sheet = self.sheets(found, Random(recipe.seed))
        return Conditioning(states, sheets=sheet.expand(len(states), -1, -1, -1))


def without_own_colours(prompt: str, things: Sequence[Sprite]) -> str:
    """The prompt without colours that drawings have anyway, or they were painted on top: "a red fox" → "a fox"."""
    for thing in things:
        names = sorted({form for name in thing.names for form in (name, plural(name))}, key=len, reverse=True)
        own = rf"\b(?:(an?) )?(?:{'|'.join(thing.colours) or 'none'}) ({'|'.join(map(re.escape, names))})\b"
        prompt = re.sub(own, lambda found: indefinite(found[2]) if found[1] else found[2], prompt, flags=re.I)
    return prompt


class LabelConditions:
    """The label that is named in the prompt, else the one nearest to it in meaning."""

    def __init__(self, text: TextEncoder, labels: Sequence[str]) -> None:
        self.text, self.labels, self.vectors = text, list(labels), text.pooled(labels)

    def __call__(self, recipe: Recipe) -> Conditioning:
        """Class numbers; the number after the last says nothing."""
        wanted = self.number(recipe.prompt)
        negative = self.number(recipe.negative_prompt) if recipe.negative_prompt else len(self.labels)
        return Conditioning(labels=torch.tensor([negative, wanted] if recipe.guidance_scale > 1 else [wanted]))

    def number(self, prompt: str) -> int:
        """Of the label meant."""
        if prompt in self.labels:
            return self.labels.index(prompt)
        return int((self.vectors @ self.text.pooled([prompt])[0]).argmax())


class SheetTiles:
    """Lays sheets."""

    def __init__(self, bank: Bank, vae: Any, patch: int) -> None:
        self.bank, self.vae, self.patch = bank, vae, patch

    def __call__(self, found: Retrieved, random: Random) -> Tensor:
        """(1, channels, 16, 16) float32; what looks as right in a mirror is mirrored by chance."""
        places, layout = plan(found.wish, random), draw_layout(random)
        shown = [self.tiles(thing, found.style, random) for thing in found.things]
        return lay_sheet(shown, places, layout, self.vae.config.latent_channels * self.patch**2).float()[None]

    def tiles(self, thing: Sprite, style: str, random: Random) -> Tiles:
        """A drawing's latents: by chance mirrored, where that looks as right, and a little smaller or aside."""
        pixels = self.bank.pixels(thing, style)
        if thing.turns and random.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return encode_tiles(self.vae, [jittered(pixels, random)], self.patch)[0]


def jittered(pixels: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    """The drawing with a transparent margin that differs from side to side, at most a tenth of its longer side."""
    longer = max(pixels.shape[:2])
    left, right, above = (round(random.uniform(0, FREE) * longer) for _ in range(3))
    return np.pad(pixels, ((above, 0), (left, right), (0, 0)))


def prompts(recipe: Recipe) -> list[str]:
    """What to encode: negative prompt and prompt, or the prompt alone."""
    return [recipe.negative_prompt, recipe.prompt] if recipe.guidance_scale > 1 else [recipe.prompt]


def open_conditions(about: Mapping[str, Any], folder: Path, vae: Any, patch: int) -> Conditions:
    """What this model goes by, as its `model.json` says; `vae` encodes drawings, if it has any.

    Raises BadSetup when its drawings or the text model are missing.
    """
    text = open_text_encoder()
    if labels := about.get("labels"):
        return LabelConditions(text, labels)
    if vae is None:
        return TextConditions(text)
    if not (folder / BANK).is_dir():
        raise BadSetup(f"{folder} has an adapter but no drawings for it: the folder {BANK} is missing")
    bank = open_bank(folder / BANK)

    def embed(texts: Sequence[str]) -> Any:
        return text.pooled(texts).numpy()

    return SheetConditions(text, Retriever(bank, embed, name_vectors(bank, embed)), SheetTiles(bank, vae, patch))
