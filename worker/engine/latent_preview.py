"""A cheap look at latents: colours by one linear map, fitted to the autoencoder, instead of decoding.

Good enough to see what will stand where while a painting goes on. Knows autoencoders; neither prompts nor queues.
"""

from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .latents import encode

LOOKS = 16  # pictures of soft random colours that it is fitted on
SIDE = 64  # px of each


class LatentPreview:
    """Latents to small images; `patch` as in `worker.engine.latents`."""

    def __init__(self, vae: Any, patch: int) -> None:
        self.vae, self.patch = vae, patch

    @cached_property
    def weights(self) -> Tensor:
        """(channels + 1, 3): from the autoencoder's latents and one to RGB in -1…1, by least squares."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(LOOKS, 3, 4, 4, generator=generator) * 2 - 1
        looks = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
        seen = encode(self.vae, looks.to(self.vae.device, self.vae.dtype), self.patch).float().cpu()
        latents = F.pixel_shuffle(seen, self.patch)
        height, width = latents.shape[2:]
        colours = F.adaptive_avg_pool2d(looks, (height, width)).permute(0, 2, 3, 1).flatten(0, 2)
        found: Tensor = torch.linalg.lstsq(columns(latents), colours).solution
        return found

    @torch.inference_mode()
    def __call__(self, latents: Tensor) -> Image.Image:
        """One pixel for each position of the autoencoder's latents; `latents`: (1, channels, height, width)."""
        latents = F.pixel_shuffle(latents, self.patch)
        height, width = latents.shape[2:]
        pixels = (columns(latents) @ self.weights).clamp(-1, 1).view(height, width, 3)
        return Image.fromarray(((pixels + 1) * 127.5).round().byte().numpy())


def columns(latents: Tensor) -> Tensor:
    """(positions, channels + 1), the last one all ones."""
    rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
