"""From a recipe to what the networks go by: token states, a class label, a sheet of drawings.

Two rows where guidance is asked for, the negative prompt's first; one otherwise. Knows no networks that paint.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memo import BadSetup, Recipe

from .denoiser import Given
from .layout import draw_layout
from .plan import plan
from .retrieve import Retrieved, Retriever, name_vectors
from .sheet import Tiles, encode_tiles, lay_sheet
from .sprites import Bank, Sprite, open_bank
from .text import TextEncoder, open_text_encoder

Conditions = Callable[[Recipe], Given]
BANK = "sprites"


class TextConditions:
    """Token states of both prompts."""

    def __init__(self, text: TextEncoder) -> None:
        self.text = text

    def __call__(self, recipe: Recipe) -> Given:
        """States (2, 24, 384), or (1, 24, 384) where nothing is to be guided."""
        return Given(self.text(prompts(recipe)))


class SheetConditions:
    """Token states, and the drawings that the prompt speaks of; the seed decides how they lie on the sheet."""

    def __init__(self, text: TextEncoder, retriever: Retriever, sheets: "Sheets") -> None:
        self.text, self.retriever, self.sheets = text, retriever, sheets

    def __call__(self, recipe: Recipe) -> Given:
        """States as TextConditions, and the same sheet for each row."""
        states = self.text(prompts(recipe))
        sheet = self.sheets(self.retriever(recipe.prompt), Random(recipe.seed))
        return Given(states, sheets=sheet.expand(len(states), -1, -1, -1))


class LabelConditions:
    """The label that is named in the prompt, else the one nearest to it in meaning."""

    def __init__(self, text: TextEncoder, labels: Sequence[str]) -> None:
        self.text, self.labels, self.vectors = text, list(labels), text.pooled(labels)

    def __call__(self, recipe: Recipe) -> Given:
        """Class numbers; the number after the last says nothing."""
        wanted = self.number(recipe.prompt)
        negative = self.number(recipe.negative_prompt) if recipe.negative_prompt else len(self.labels)
        return Given(labels=torch.tensor([negative, wanted] if recipe.guidance_scale > 1 else [wanted]))

    def number(self, prompt: str) -> int:
        """Of the label meant."""
        if prompt in self.labels:
            return self.labels.index(prompt)
        return int((self.vectors @ self.text.pooled([prompt])[0]).argmax())


class Sheets:
    """Lays sheets; the last drawings' latents are kept."""

    def __init__(self, bank: Bank, vae: Any, patch: int) -> None:
        self.bank, self.vae, self.patch = bank, vae, patch
        self.tiles = lru_cache(maxsize=256)(self._tiles)

    def __call__(self, found: Retrieved, random: Random) -> Tensor:
        """(1, channels, 16, 16) float32; what looks as right in a mirror is mirrored by chance."""
        places, layout = plan(found.wish, random), draw_layout(random)
        shown = [self.tiles(thing, found.style, thing.turns and random.random() < 0.5) for thing in found.things]
        return lay_sheet(shown, places, layout, self.vae.config.latent_channels * self.patch**2).float()[None]

    def _tiles(self, thing: Sprite, style: str, mirrored: bool) -> Tiles:
        pixels = self.bank.pixels(thing, style)
        return encode_tiles(self.vae, [np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels], self.patch)[0]


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

    return SheetConditions(text, Retriever(bank, embed, name_vectors(bank, embed)), Sheets(bank, vae, patch))
