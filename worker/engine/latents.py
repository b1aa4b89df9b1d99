"""Encodes pictures to the latents that a UNet takes, and decodes them; a patch of latents may form one position.

A 4× autoencoder keeps fine edges and trains quickly, but leaves four times the positions of an 8× one. Stacking
2 × 2 neighbours as channels (space to depth, as FLUX and SD3 do) gives the UNet the small grid all the same.
"""

from math import isqrt
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def encode(vae: Any, pictures: Tensor, patch: int) -> Tensor:
    """Encode pictures (n, 3, h, w) in -1..1 as latents (n, patch² · channels, h / f / patch, w / f / patch).

    f is the autoencoder's downsampling factor.
    """
    encoded = vae.encode(pictures)
    is_tiny = hasattr(encoded, "latents")  # AutoencoderTiny has no distribution
    latents = encoded.latents if is_tiny else encoded.latent_dist.mode()
    return F.pixel_unshuffle(latents * vae.config.scaling_factor, patch)


def decode(vae: Any, latents: Tensor, patch: int) -> Tensor:
    """Decode latents from `encode` to pictures (n, 3, h, w) in about -1..1."""
    pictures: Tensor = vae.decode(F.pixel_shuffle(latents, patch) / vae.config.scaling_factor).sample
    return pictures


def patch_size(channels: int, vae: Any) -> int:
    """The side of the patch for a UNet with `channels` input channels and this autoencoder."""
    return isqrt(channels // vae.config.latent_channels)


def pixels_per_position(vae: Any, patch: int) -> int:
    """The width and height in pixels of one position of the UNet's latents."""
    config = vae.config
    levels = config.get("encoder_block_out_channels") or config.block_out_channels  # AutoencoderTiny, the others
    return int(2 ** (len(levels) - 1)) * patch
