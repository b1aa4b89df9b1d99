"""Enlarge a painted picture twice or four times, with cleaner edges than interpolation leaves.

A light residual network after EDSR (Lim et al. 2017, https://arxiv.org/abs/1707.02921): what it adds to a bicubic
enlargement is computed at the small size. Knows no prompts, and not what it was trained on.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from memo import BadSetup

SCALES = (2, 4)
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Upscaler:
    """Makes pictures `scale` times as wide and as high; the same picture gives the same bytes on the same machine."""

    def __init__(self, network: "EnlargingNetwork") -> None:
        self.network, self.scale = network.eval(), network.scale

    @torch.inference_mode()
    def __call__(self, picture: Image.Image) -> Image.Image:
        """RGB in, RGB out, of any width and height."""
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
        enlarged = self.network(pixels.permute(2, 0, 1)[None] / 127.5 - 1)[0].clamp(-1, 1)
        return Image.fromarray(((enlarged + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy())


class EnlargingNetwork(nn.Module):
    """(n, 3, h, w) in -1..1 to (n, 3, scale·h, scale·w); untrained it is a bicubic enlargement."""

    def __init__(self, *, scale: int, width: int, blocks: int) -> None:
        super().__init__()
        if scale not in SCALES:
            raise BadSetup(f"scale must be {' or '.join(map(str, SCALES))}, not {scale!r}")
        self.scale, self.width, self.blocks = scale, width, blocks
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1, bias=False)
        nn.init.zeros_(self.tail.weight)

    def forward(self, small: Tensor) -> Tensor:
        """See the class."""
        features = self.head(small.contiguous(memory_format=torch.channels_last))  # a fifth faster on a CPU
        added = F.pixel_shuffle(self.tail(self.body(features)), self.scale)
        return enlarge(small, self.scale) + added


class Residual(nn.Module):
    """Two convolutions whose sum is added to what comes in; at first a small correction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(n, width, h, w), and so is what it returns."""
        corrected: Tensor = features + self.second(F.relu(self.first(features)))
        return corrected


def enlarge(small: Tensor, scale: int) -> Tensor:
    """Bicubic with Pillow's kernel (a = -0.5), which torch uses when it filters against aliasing."""
    return F.interpolate(small, scale_factor=scale, mode="bicubic", antialias=True)


def save_upscaler(network: EnlargingNetwork, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, the weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"scale": network.scale, "width": network.width, "blocks": network.blocks}
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    save_file({name: part.half().contiguous() for name, part in network.state_dict().items()}, folder / WEIGHTS)


def open_upscaler(folder: Path) -> Upscaler:
    """The upscaler that `save_upscaler` wrote, in float32; raises BadSetup naming the file that cannot be used."""
    network = read_config(folder / CONFIG)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BadSetup(f"{folder / WEIGHTS} cannot be loaded: {error}") from error
    return Upscaler(network)


def read_config(path: Path) -> EnlargingNetwork:
    """An untrained network as the file describes it."""
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        return EnlargingNetwork(**{name: int(config[name]) for name in ("scale", "width", "blocks")})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, BadSetup) as error:
        raise BadSetup(f"{path} does not describe an upscaler: {error!r}") from error
