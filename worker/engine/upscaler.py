"""Upscalers, which enlarge a painted picture twice or four times with cleaner edges than interpolation.

One is a light residual network after EDSR (Lim et al. 2017, https://arxiv.org/abs/1707.02921): it adds detail to a
bicubic enlargement, and computes it at the small size, tile by tile, so that memory is bounded. The other is Stable
Diffusion's upscaler in diffusers' pipeline, which also reads the prompt. Does not know how either was trained.
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
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from memo import BadSetup

from .device import Device
from .overflow import Overflow, all_finite

SCALES = (2, 4)
CONFIG, WEIGHTS, DESCRIPTION = "config.json", "model.safetensors", "model.json"
TILE = 512  # side in px of the part that the network enlarges at once, without its margin
DECODED_TILE = 256  # side in px of the small picture's part that a pipeline decodes at once
KERNEL_REACH = 2  # px of the small picture that the bicubic kernel reaches to each side
FAMILY = "stable-diffusion-upscale"
SIZE_MULTIPLE = 8  # the pipeline takes pictures whose sides are multiples of this
WHEN_ENLARGED = "while the picture was enlarged"
STEPS, GUIDANCE, NOISE = 75, 9.0, 20  # the pipeline's own defaults
CPU_FLOAT32 = Device("cpu", torch.float32)


class Upscaler(Protocol):
    """Makes pictures `scale` times as wide and as high.

    On one machine, the same picture, prompt and seed give the same bytes. An upscaler may ignore the prompt.
    """

    scale: int

    def __call__(self, picture: Image.Image, *, prompt: str = "", seed: int = 0) -> Image.Image:
        """The enlarged RGB picture of an RGB picture of any size. Raises Overflow."""


class NetworkUpscaler:
    """Enlarges with a small network on the CPU, in tiles whose margins cover the network's receptive field.

    So tiles give the same picture as one pass, except for rounding: the order of sums depends on a tile's size. In a
    picture of noise, 5 of 17 million values differed by one level of 255.
    """

    def __init__(self, network: "EnlargingNetwork", tile: int = TILE) -> None:
        self.network, self.scale, self.tile = network.eval(), network.scale, tile

    @torch.inference_mode()
    def __call__(self, picture: Image.Image, *, prompt: str = "", seed: int = 0) -> Image.Image:
        """See Upscaler."""
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
        height, width = pixels.shape[2:]
        enlarged = np.empty((self.scale * height, self.scale * width, 3), np.uint8)
        for tile in tiles(height, width, side=self.tile, margin=self.network.reach):
            enlarged[tile.target(self.scale)] = self.enlarge(pixels, tile)
        return Image.fromarray(enlarged)

    def enlarge(self, pixels: Tensor, tile: "Tile") -> Any:
        """A tile of the enlarged picture as (h, w, 3) bytes."""
        output = self.network(pixels[:, :, tile.input_rows, tile.input_columns] / 127.5 - 1)[0]
        if not all_finite(output):
            raise Overflow(WHEN_ENLARGED)
        output = output.clamp(-1, 1)
        rows, columns = tile.crop(self.scale)
        return ((output[:, rows, columns] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's rows and columns in a picture, and the larger input with its margins."""

    rows: slice
    columns: slice
    input_rows: slice
    input_columns: slice

    def target(self, scale: int) -> tuple[slice, slice]:
        """The tile's rows and columns in the enlarged picture."""
        return scaled_slice(self.rows, scale, 0), scaled_slice(self.columns, scale, 0)

    def crop(self, scale: int) -> tuple[slice, slice]:
        """The tile's rows and columns in its own enlarged input; the rest is margin."""
        rows = scaled_slice(self.rows, scale, self.input_rows.start)
        return rows, scaled_slice(self.columns, scale, self.input_columns.start)


def scaled_slice(part: slice, scale: int, origin: int) -> slice:
    """A slice relative to an origin, after enlarging."""
    return slice(scale * (part.start - origin), scale * (part.stop - origin))


def tiles(height: int, width: int, *, side: int, margin: int) -> Iterator[Tile]:
    """Tiles that cover a picture; at its edges they have no margin."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            bottom, right = min(height, top + side), min(width, left + side)
            yield Tile(
                slice(top, bottom),
                slice(left, right),
                slice(max(0, top - margin), min(height, bottom + margin)),
                slice(max(0, left - margin), min(width, right + margin)),
            )


class EnlargingNetwork(nn.Module):
    """Enlarges (n, 3, h, w) in -1..1 to (n, 3, scale·h, scale·w); untrained, it enlarges bicubically."""

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
        """The distance in px of the small picture over which one px depends on others: one per convolution."""
        return max(KERNEL_REACH, 2 * self.blocks + 2)

    def forward(self, small: Tensor) -> Tensor:
        """The enlarged pictures; see the class for shapes."""
        features = self.head(small.contiguous(memory_format=torch.channels_last))  # a fifth faster on a CPU
        detail = F.pixel_shuffle(self.tail(self.body(features)), self.scale)
        return enlarge(small, self.scale) + detail


class Residual(nn.Module):
    """A residual block of two convolutions; initialized to a small correction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """The corrected features, in the same shape (n, width, h, w)."""
        corrected: Tensor = features + self.second(F.relu(self.first(features)))
        return corrected


def enlarge(small: Tensor, scale: int) -> Tensor:
    """Enlarge bicubically with Pillow's kernel (a = -0.5), which torch uses if `antialias` is set."""
    return F.interpolate(small, scale_factor=scale, mode="bicubic", antialias=True)


class PipelineUpscaler:
    """Enlarges with Stable Diffusion's x4 upscaler, which adds detail that fits the prompt; for several threads.

    Its attention spans the whole picture, so tiles would not match each other. Only decoding, which takes by far the
    most memory, works in tiles if the picture is larger than one, and blends their seams.
    """

    scale = 4

    def __init__(self, pipe: Any, description: Mapping[str, Any], tile: int = DECODED_TILE) -> None:
        self.pipe, self.lock = pipe, threading.Lock()
        pipe.set_progress_bar_config(disable=True)
        pipe.vae.enable_tiling()
        pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = tile, self.scale * tile
        self.settings = {
            "num_inference_steps": int(description.get("steps", STEPS)),
            "guidance_scale": float(description.get("guidance_scale", GUIDANCE)),
            "noise_level": int(description.get("noise_level", NOISE)),
        }

    @torch.inference_mode()
    def __call__(self, picture: Image.Image, *, prompt: str = "", seed: int = 0) -> Image.Image:
        """See Upscaler."""
        noise = torch.Generator("cpu").manual_seed(seed)
        with self.lock:
            padded = pad_picture(picture.convert("RGB"))
            pixels = self.pipe(prompt, image=padded, generator=noise, output_type="np", **self.settings).images
        if not np.isfinite(pixels).all():
            raise Overflow(WHEN_ENLARGED)
        size = (self.scale * picture.width, self.scale * picture.height)
        image: Image.Image = VaeImageProcessor.numpy_to_pil(pixels)[0].convert("RGB").crop((0, 0, *size))
        return image


def pad_picture(picture: Image.Image) -> Image.Image:
    """The picture with its last column and row repeated until its sides are multiples of SIZE_MULTIPLE."""
    columns, rows = -picture.width % SIZE_MULTIPLE, -picture.height % SIZE_MULTIPLE
    if not columns and not rows:
        return picture
    return Image.fromarray(np.pad(np.array(picture), ((0, rows), (0, columns), (0, 0)), mode="edge"))


def save_upscaler(network: EnlargingNetwork, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, the weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"scale": network.scale, "width": network.width, "blocks": network.blocks}
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    save_file({name: part.half().contiguous() for name, part in network.state_dict().items()}, folder / WEIGHTS)


def open_upscaler(folder: Path, device: Device = CPU_FLOAT32) -> Upscaler:
    """The upscaler in a folder: one that `save_upscaler` wrote, or one whose `model.json` names its family.

    The former always computes on the CPU in float32. Raises BadSetup naming the file that cannot be used.
    """
    if (folder / DESCRIPTION).is_file():
        return open_pipeline_upscaler(read_description(folder / DESCRIPTION), folder, device)
    network = read_config(folder / CONFIG)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BadSetup(f"{folder / WEIGHTS} cannot be loaded: {error}") from error
    return NetworkUpscaler(network)


def open_model_upscaler(description: Mapping[str, Any], folder: Path, device: Device) -> Upscaler | None:
    """A model's upscaler by its model.json: from the key `upscaler`, else from the folder `upscaler/`, else None.

    The key names another folder, relative to the model's, or describes a pipeline. Raises BadSetup.
    """
    upscaler = description.get("upscaler")
    if isinstance(upscaler, Mapping):
        return open_pipeline_upscaler(upscaler, folder / "upscaler", device)
    if upscaler is not None and not isinstance(upscaler, str):
        raise BadSetup(f"{folder}: upscaler must name a folder or describe a pipeline, not {upscaler!r}")
    path = folder / (upscaler or "upscaler")
    return open_upscaler(path, device) if upscaler or path.is_dir() else None


def open_pipeline_upscaler(description: Mapping[str, Any], folder: Path, device: Device) -> PipelineUpscaler:
    """Stable Diffusion's upscaler from this folder, or from the hub: `source` at `hub_revision`; raises BadSetup."""
    if description.get("family") != FAMILY:
        raise BadSetup(f"{folder}: the family of an upscaler must be {FAMILY}, not {description.get('family')!r}")
    source: str = description.get("source", str(folder))
    options = {"revision": description.get("hub_revision")} if "source" in description else {"local_files_only": True}
    if "source" in description and not options["revision"]:
        raise BadSetup(f"{folder}: an upscaler from the hub needs its commit as hub_revision")
    options |= {"dtype": device.dtype, "use_safetensors": True, "safety_checker": None}
    try:
        pipe = StableDiffusionUpscalePipeline.from_pretrained(source, **options)
        return PipelineUpscaler(pipe.to(device.name), description)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadSetup(f"the upscaler {source} cannot be loaded: {error}") from error


def read_description(path: Path) -> dict[str, Any]:
    """The contents of a model.json; raises BadSetup if it is not a JSON object."""
    try:
        description: dict[str, Any] = json.loads(path.read_text())
        description.get("family")
    except (OSError, ValueError, AttributeError) as error:
        raise BadSetup(f"{path} does not describe an upscaler: {error!r}") from error
    return description


def read_config(path: Path) -> EnlargingNetwork:
    """An untrained network of the file's scale, width and blocks; raises BadSetup."""
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        return EnlargingNetwork(**{name: int(config[name]) for name in ("scale", "width", "blocks")})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, BadSetup) as error:
        raise BadSetup(f"{path} does not describe an upscaler: {error!r}") from error
