"""Enlarge a painted picture twice or four times, with cleaner edges than interpolation leaves.

A light residual network after EDSR (Lim et al. 2017, https://arxiv.org/abs/1707.02921): what it adds to a bicubic
enlargement is computed at the small size, tile by tile, so that memory is bounded. Or Stable Diffusion's upscaler
through diffusers' pipeline, which is told in words what it enlarges. Does not know what either was trained on.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import StableDiffusionUpscalePipeline
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from memo import BadSetup

from .device import Device

SCALES = (2, 4)
CONFIG, WEIGHTS, ABOUT = "config.json", "model.safetensors", "model.json"
TILE = 512  # px along a side of what the network enlarges at once, without its margin
DECODED = 256  # px of the small picture along a side of what a pipeline decodes at once
FILTER = 2  # px of the small picture that the bicubic kernel reaches to each side
FAMILY = "stable-diffusion-upscale"
CELL = 8  # the sides of what the pipeline enlarges are multiples of it
STEPS, GUIDANCE, NOISE = 75, 9.0, 20  # the pipeline's own defaults
ON_THE_CPU = Device("cpu", torch.float32)


class Upscaler(Protocol):
    """Makes pictures `scale` times as wide and as high; the same picture, prompt and seed give the same bytes.

    On one machine. Whoever does not read prompts does not mind them.
    """

    scale: int

    def __call__(self, picture: Image.Image, *, prompt: str = "", seed: int = 0) -> Image.Image:
        """RGB in, RGB out, of any width and height."""


class NetworkUpscaler:
    """By a small network on the CPU, in tiles whose margins are as wide as it looks: they come out as in one go.

    But for rounding: the order of sums depends on a tile's size, and of 17 million values of noise 5 came out one
    level of 255 apart.
    """

    def __init__(self, network: "EnlargingNetwork", tile: int = TILE) -> None:
        self.network, self.scale, self.tile = network.eval(), network.scale, tile

    @torch.inference_mode()
    def __call__(self, picture: Image.Image, *, prompt: str = "", seed: int = 0) -> Image.Image:
        """See Upscaler."""
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
        height, width = pixels.shape[2:]
        enlarged = np.empty((self.scale * height, self.scale * width, 3), np.uint8)
        for place in tiles(height, width, tile=self.tile, margin=self.network.reach):
            enlarged[place.inside(self.scale)] = self.enlarge(pixels, place)
        return Image.fromarray(enlarged)

    def enlarge(self, pixels: Tensor, place: "Tile") -> Any:
        """A tile of the enlarged picture as (h, w, 3) bytes."""
        found = self.network(pixels[:, :, place.seen_down, place.seen_across] / 127.5 - 1)[0].clamp(-1, 1)
        rows, columns = place.kept(self.scale)
        return ((found[:, rows, columns] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns of a picture that are enlarged, and those besides that are looked at."""

    down: slice
    across: slice
    seen_down: slice
    seen_across: slice

    def inside(self, scale: int) -> tuple[slice, slice]:
        """Where it stands in the enlarged picture."""
        return times(self.down, scale, 0), times(self.across, scale, 0)

    def kept(self, scale: int) -> tuple[slice, slice]:
        """What of its own enlargement, seen margins and all, is kept."""
        return times(self.down, scale, self.seen_down.start), times(self.across, scale, self.seen_across.start)


def times(part: slice, scale: int, start: int) -> slice:
    """A part as counted from a start, after enlarging."""
    return slice(scale * (part.start - start), scale * (part.stop - start))


def tiles(height: int, width: int, *, tile: int, margin: int) -> Iterator[Tile]:
    """Tiles that cover a picture; at its edges there is no margin, for there the picture itself ends."""
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(height, top + tile), min(width, left + tile)
            yield Tile(
                slice(top, bottom),
                slice(left, right),
                slice(max(0, top - margin), min(height, bottom + margin)),
                slice(max(0, left - margin), min(width, right + margin)),
            )


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

    @property
    def reach(self) -> int:
        """How many px of the small picture to each side a px depends on: one for each convolution."""
        return max(FILTER, 2 * self.blocks + 2)

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


class PipelineUpscaler:
    """By Stable Diffusion's x4 upscaler, which paints what the prompt says into the picture; for several threads.

    Its attention spans the picture, so that tiles would not fit together; only what takes the most memory by far,
    decoding, goes by tiles where the picture is larger than one, and their seams are blended.
    """

    scale = 4

    def __init__(self, pipe: Any, about: Mapping[str, Any], tile: int = DECODED) -> None:
        self.pipe, self.lock = pipe, threading.Lock()
        pipe.set_progress_bar_config(disable=True)
        pipe.vae.enable_tiling()
        pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = tile, self.scale * tile
        self.settings = {
            "num_inference_steps": int(about.get("steps", STEPS)),
            "guidance_scale": float(about.get("guidance_scale", GUIDANCE)),
            "noise_level": int(about.get("noise_level", NOISE)),
        }

    @torch.inference_mode()
    def __call__(self, picture: Image.Image, *, prompt: str = "", seed: int = 0) -> Image.Image:
        """See Upscaler."""
        noise = torch.Generator("cpu").manual_seed(seed)
        with self.lock:
            found = self.pipe(prompt, image=filled(picture.convert("RGB")), generator=noise, **self.settings)
        size = (self.scale * picture.width, self.scale * picture.height)
        image: Image.Image = found.images[0].convert("RGB").crop((0, 0, *size))
        return image


def filled(picture: Image.Image) -> Image.Image:
    """The picture with its last column and row repeated until its sides are multiples of CELL."""
    across, down = -picture.width % CELL, -picture.height % CELL
    if not across and not down:
        return picture
    return Image.fromarray(np.pad(np.array(picture), ((0, down), (0, across), (0, 0)), mode="edge"))


def save_upscaler(network: EnlargingNetwork, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, the weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"scale": network.scale, "width": network.width, "blocks": network.blocks}
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    save_file({name: part.half().contiguous() for name, part in network.state_dict().items()}, folder / WEIGHTS)


def open_upscaler(folder: Path, device: Device = ON_THE_CPU) -> Upscaler:
    """What lies in a folder: the upscaler that `save_upscaler` wrote, or one whose `model.json` names its family.

    The former calculates on the CPU in float32 always. Raises BadSetup naming the file that cannot be used.
    """
    if (folder / ABOUT).is_file():
        return open_pipeline_upscaler(read_about(folder / ABOUT), folder, device)
    network = read_config(folder / CONFIG)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BadSetup(f"{folder / WEIGHTS} cannot be loaded: {error}") from error
    return NetworkUpscaler(network)


def upscaler_of(about: Mapping[str, Any], folder: Path, device: Device) -> Upscaler | None:
    """What enlarges a model's pictures, by its model.json: the key `upscaler`, else its folder `upscaler/`, if any.

    The key is the name of another folder, from this one, or describes a pipeline. Raises BadSetup.
    """
    wanted = about.get("upscaler")
    if isinstance(wanted, Mapping):
        return open_pipeline_upscaler(wanted, folder / "upscaler", device)
    if wanted is not None and not isinstance(wanted, str):
        raise BadSetup(f"{folder}: upscaler must name a folder or describe a pipeline, not {wanted!r}")
    there = folder / (wanted or "upscaler")
    return open_upscaler(there, device) if wanted or there.is_dir() else None


def open_pipeline_upscaler(about: Mapping[str, Any], folder: Path, device: Device) -> PipelineUpscaler:
    """Stable Diffusion's upscaler from this folder, or from the hub: `source` at `hub_revision`; raises BadSetup."""
    if about.get("family") != FAMILY:
        raise BadSetup(f"{folder}: the family of an upscaler is {FAMILY}, not {about.get('family')!r}")
    source: str = about.get("source", str(folder))
    options = {"revision": about.get("hub_revision")} if "source" in about else {"local_files_only": True}
    if "source" in about and not options["revision"]:
        raise BadSetup(f"{folder}: an upscaler from the hub needs the commit as hub_revision")
    options |= {"dtype": device.kind, "use_safetensors": True, "safety_checker": None}
    try:
        pipe = StableDiffusionUpscalePipeline.from_pretrained(source, **options)
        return PipelineUpscaler(pipe.to(device.name), about)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadSetup(f"the upscaler {source} cannot be loaded: {error}") from error


def read_about(path: Path) -> dict[str, Any]:
    """A model.json; raises BadSetup."""
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        about.get("family")
    except (OSError, ValueError, AttributeError) as error:
        raise BadSetup(f"{path} does not describe an upscaler: {error!r}") from error
    return about


def read_config(path: Path) -> EnlargingNetwork:
    """An untrained network as the file describes it."""
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        return EnlargingNetwork(**{name: int(config[name]) for name in ("scale", "width", "blocks")})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, BadSetup) as error:
        raise BadSetup(f"{path} does not describe an upscaler: {error!r}") from error
