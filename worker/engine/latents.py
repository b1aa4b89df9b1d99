"""Pictures to the latents that a UNet sees, and back; several of the autoencoder's latents may form one cell.

A 4× autoencoder keeps fine edges and is quickly trained, but leaves four times the positions of an 8× one. Laying
2 × 2 neighbours behind each other (space to depth, as FLUX and SD3 do) gives the UNet the small grid all the same.
"""

from math import isqrt
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def encode(vae: Any, pictures: Tensor, patch: int) -> Tensor:
    """(n, 3, h, w) in -1..1 to (n, patch² · channels, h / f / patch, w / f / patch)."""
    seen = vae.encode(pictures)
    latents = (
        seen.latents if hasattr(seen, "latents") else seen.latent_dist.mode()
    )  # of AutoencoderTiny, of the others
    return F.pixel_unshuffle(latents * vae.config.scaling_factor, patch)


def decode(vae: Any, latents: Tensor, patch: int) -> Tensor:
    """The way back, to (n, 3, h, w) in about -1..1."""
    pictures: Tensor = vae.decode(F.pixel_shuffle(latents, patch) / vae.config.scaling_factor).sample
    return pictures


def patch_of(channels: int, vae: Any) -> int:
    """The patch with which a UNet of so many input channels was trained on this autoencoder."""
    return isqrt(channels // vae.config.latent_channels)


def cell_of(vae: Any, patch: int) -> int:
    """How many pixels wide and high one cell of the latents is."""
    config = vae.config
    levels = config.get("encoder_block_out_channels") or config.block_out_channels  # of AutoencoderTiny, of others
    return int(2 ** (len(levels) - 1)) * patch
