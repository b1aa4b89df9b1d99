"""A cheap preview of latents: colours by one linear map that is fitted to the autoencoder, instead of decoding.

Good enough to see the composition while a painting is under way. Knows autoencoders; neither prompts nor queues.
"""

from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .latents import encode

SAMPLES = 16  # pictures of soft random colours for the fit
SIDE = 64  # their width and height in px


class LatentPreview:
    """Turns latents into small images; `patch` as in `worker.engine.latents`."""

    def __init__(self, vae: Any, patch: int) -> None:
        self.vae, self.patch = vae, patch

    @cached_property
    def weights(self) -> Tensor:
        """(channels + 1, 3): the least-squares map from the autoencoder's latents and a one to RGB in -1…1."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(SAMPLES, 3, 4, 4, generator=generator) * 2 - 1
        pictures = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
        encoded = encode(self.vae, pictures.to(self.vae.device, self.vae.dtype), self.patch).float().cpu()
        latents = F.pixel_shuffle(encoded, self.patch)
        height, width = latents.shape[2:]
        colours = F.adaptive_avg_pool2d(pictures, (height, width)).permute(0, 2, 3, 1).flatten(0, 2)
        weights: Tensor = torch.linalg.lstsq(design_matrix(latents), colours).solution
        return weights

    @torch.inference_mode()
    def __call__(self, latents: Tensor) -> Image.Image:
        """An RGB image with one pixel per autoencoder position, from latents (1, channels, height, width)."""
        latents = F.pixel_shuffle(latents, self.patch)
        height, width = latents.shape[2:]
        pixels = (design_matrix(latents) @ self.weights).clamp(-1, 1).view(height, width, 3)
        return Image.fromarray(((pixels + 1) * 127.5).round().byte().numpy())


def design_matrix(latents: Tensor) -> Tensor:
    """The latents as (positions, channels + 1); the last column is all ones."""
    rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
