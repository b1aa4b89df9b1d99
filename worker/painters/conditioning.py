"""Turns a recipe into the networks' conditioning: token states, a class label, a sheet of drawings.

With guidance there are two rows, the negative prompt's first; without it there is one. Knows no networks that paint.
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
from worker.engine.text_encoder import TOKENS, TextEncoder, explain_unread, open_text_encoder
from worker.stickers.layout import draw_layout
from worker.stickers.nouns import add_article, plural
from worker.stickers.plan import place_drawings
from worker.stickers.retrieve import Retrieved, Retriever, name_vectors
from worker.stickers.sheet import Tiles, encode_tiles, lay_sheet
from worker.stickers.sprites import Bank, Sprite, open_bank

Conditioner = Callable[[Recipe], Conditioning]
BANK = "sprites"  # folder of a model's drawings
MAX_MARGIN = 0.05  # the widest margin on one side of a drawing, as a share of the drawing's longer side


class TextConditioner:
    """Conditions on the token states of both prompts."""

    def __init__(self, text: TextEncoder) -> None:
        self.text = text

    def __call__(self, recipe: Recipe) -> Conditioning:
        """States (2, 24, 384), or (1, 24, 384) without guidance."""
        notes = explain_unread(self.text.unread(recipe.prompt), TOKENS)
        return Conditioning(self.text(prompts_to_encode(recipe)), notes=notes)


class SheetConditioner:
    """Conditions on token states and a sheet of the drawings that the prompt names; the seed decides their layout."""

    def __init__(self, text: TextEncoder, retriever: Retriever, sheets: "SheetTiles") -> None:
        self.text, self.retriever, self.sheets = text, retriever, sheets

    def __call__(self, recipe: Recipe) -> Conditioning:
        """States as TextConditioner's, and the same sheet for each row."""
        retrieved = self.retriever(recipe.prompt)
        *negative, prompt = prompts_to_encode(recipe)
        prompt = drop_natural_colours(prompt, retrieved.things)
        states = self.text([*negative, prompt])
        notes = (*retrieved.notes, *explain_unread(self.text.unread(prompt), TOKENS))
        sheet = self.sheets(retrieved, Random(recipe.seed))
        return Conditioning(states, sheets=sheet.expand(len(states), -1, -1, -1), notes=notes)


def drop_natural_colours(prompt: str, things: Sequence[Sprite]) -> str:
    """The prompt without colours that the drawings already have: "a red fox" → "a fox".

    Otherwise the model would paint the colour once more over the drawing.
    """
    for thing in things:
        names = sorted({form for name in thing.names for form in (name, plural(name))}, key=len, reverse=True)
        phrase = rf"\b(?:(an?) )?(?:{'|'.join(thing.colours) or 'none'}) ({'|'.join(map(re.escape, names))})\b"
        prompt = re.sub(phrase, lambda match: add_article(match[2]) if match[1] else match[2], prompt, flags=re.I)
    return prompt


class LabelConditioner:
    """Conditions on one class label: the label that is the prompt, or else the one closest to it in meaning."""

    def __init__(self, text: TextEncoder, labels: Sequence[str]) -> None:
        self.text, self.labels, self.vectors = text, list(labels), text.embed(labels)

    def __call__(self, recipe: Recipe) -> Conditioning:
        """Class numbers; the number after the last one stands for no class."""
        label = self.find_label(recipe.prompt)
        negative = self.find_label(recipe.negative_prompt) if recipe.negative_prompt else len(self.labels)
        return Conditioning(labels=torch.tensor([negative, label] if recipe.guidance_scale > 1 else [label]))

    def find_label(self, prompt: str) -> int:
        """The number of the label that the prompt means."""
        if prompt in self.labels:
            return self.labels.index(prompt)
        return int((self.vectors @ self.text.embed([prompt])[0]).argmax())


class SheetTiles:
    """Encodes drawings and lays them on sheets."""

    def __init__(self, bank: Bank, vae: Any, patch: int) -> None:
        self.bank, self.vae, self.patch = bank, vae, patch

    def __call__(self, retrieved: Retrieved, random: Random) -> Tensor:
        """A sheet (1, channels, 16, 16), float32; `random` decides places, mirroring and margins."""
        places, layout = place_drawings(retrieved.composition, random), draw_layout(random)
        tiles = [self.tiles(thing, retrieved.style, random) for thing in retrieved.things]
        return lay_sheet(tiles, places, layout, self.vae.config.latent_channels * self.patch**2).float()[None]

    def tiles(self, thing: Sprite, style: str, random: Random) -> Tiles:
        """A drawing's latents, with random margins; at random, the drawing is mirrored if that is allowed."""
        pixels = self.bank.pixels(thing, style)
        if thing.turns and random.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return encode_tiles(self.vae, [add_margins(pixels, random)], self.patch)[0]


def add_margins(pixels: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    """The drawing with random transparent margins to the left, right and top, each at most MAX_MARGIN."""
    longer = max(pixels.shape[:2])
    left, right, above = (round(random.uniform(0, MAX_MARGIN) * longer) for _ in range(3))
    return np.pad(pixels, ((above, 0), (left, right), (0, 0)))


def prompts_to_encode(recipe: Recipe) -> list[str]:
    """With guidance the negative prompt and the prompt, without it the prompt alone."""
    return [recipe.negative_prompt, recipe.prompt] if recipe.guidance_scale > 1 else [recipe.prompt]


def open_conditioner(description: Mapping[str, Any], folder: Path, vae: Any, patch: int) -> Conditioner:
    """The conditioner that a model's `model.json` describes; `vae` encodes drawings, None for a model without them.

    Raises BadSetup if the model's drawings or the text model are missing.
    """
    text = open_text_encoder()
    if labels := description.get("labels"):
        return LabelConditioner(text, labels)
    if vae is None:
        return TextConditioner(text)
    if not (folder / BANK).is_dir():
        raise BadSetup(f"{folder} has an adapter for drawings, but its folder {BANK} is missing")
    bank = open_bank(folder / BANK)

    def embed(texts: Sequence[str]) -> Any:
        return text.embed(texts).numpy()

    retriever = Retriever(bank, embed, name_vectors(bank, embed), text.is_word)
    return SheetConditioner(text, retriever, SheetTiles(bank, vae, patch))
