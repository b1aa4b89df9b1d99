"""A painter over a latent diffusion model in diffusers' folder layout: one recipe at a time, one step after another.

Knows no queue and no memory. Classifier-free guidance: https://arxiv.org/abs/2207.12598.
"""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderTiny, T2IAdapter, UNet2DConditionModel, UNet2DModel
from PIL import Image

from memo import BadSetup, Recipe

from .catalogue import Model
from .conditions import Conditions, open_conditions
from .denoiser import Denoiser
from .latents import decode, patch_of
from .painter import OnStep
from .samplers import Tables, advance
from .sheet import shown_on
from .upscaler import Upscaler, open_upscaler


class DiffusionPainter:
    """The networks of one model in float32 on the CPU."""

    device = "cpu float32"

    def __init__(self, denoiser: Denoiser, vae: Any, schedule: dict[str, Any], conditions: Conditions) -> None:
        self.denoiser, self.vae, self.tables, self.conditions = denoiser, vae, Tables(schedule), conditions
        self.upscaler: Upscaler | None = None

    @torch.inference_mode()
    def __call__(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """See Painter. Painted at the model's native size, then enlarged to the recipe's."""
        generator = torch.Generator("cpu").manual_seed(seed_of(recipe))
        latents = self.denoise(recipe, generator, on_step)
        image = to_image(decode(self.vae, latents, patch_of(latents.shape[1], self.vae)))
        return enlarged(image, (recipe.width, recipe.height), self.upscaler)

    def denoise(self, recipe: Recipe, generator: torch.Generator, on_step: OnStep) -> Any:
        """From noise to latents, shape (1, channels, side, side)."""
        table = self.tables.of(recipe.sampler, recipe.schedule, recipe.steps)
        unet = self.denoiser.unet.config
        shape = (1, unet.in_channels, unet.sample_size, unet.sample_size)
        latents = torch.randn(shape, generator=generator) * table.start
        kept = nothing = torch.zeros(shape)
        given = self.conditions(recipe)
        features = self.denoiser.features(given)
        for step, row in enumerate(table.rows, start=1):
            timestep, scale, *_, strength = row
            rows = (scale * latents).expand(len(given), -1, -1, -1)
            output = self.denoiser.predict(rows, timestep.expand(len(given)), given, features)
            noise = torch.randn(shape, generator=generator) if strength else nothing
            latents, kept = advance(row[None], latents, guided(output, recipe.guidance_scale), kept, noise)
            on_step(step)
        return latents if given.sheets is None else latents + shown_on(given.sheets[:1])


def guided(output: torch.Tensor, scale: float) -> torch.Tensor:
    """The output for the prompt, pushed away from the one for the negative prompt; of one row, itself."""
    if len(output) == 1:
        return output
    negative, positive = output.chunk(2)
    return torch.as_tensor(negative + scale * (positive - negative))


def enlarged(image: Image.Image, size: tuple[int, int], upscaler: Upscaler | None) -> Image.Image:
    """The image in the size asked for: once by the upscaler if it is too small, the rest by a filter."""
    if upscaler is not None and image.width < size[0]:
        image = upscaler(image)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def seed_of(recipe: Recipe) -> int:
    """The seed; raises BadSetup for a wish, which must be given one before it is painted."""
    if recipe.seed is None:
        raise BadSetup("a wish cannot be painted: draw a seed first")
    return recipe.seed


def to_image(decoded: torch.Tensor) -> Image.Image:
    """(1, 3, height, width) in -1…1 as an RGB image."""
    pixels = ((decoded[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def open_diffusion(model: Model, threads: int) -> DiffusionPainter:
    """Load a folder's networks, scheduler settings and drawings; raises BadSetup naming what cannot be read."""
    torch.set_num_threads(threads)
    for library in (diffusers.logging, transformers.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    folder = model.folder
    try:
        about = json.loads((folder / "model.json").read_text())
        kind = UNet2DModel if about.get("labels") else UNet2DConditionModel
        unet = kind.from_pretrained(folder / "unet", **quiet("unet", folder))
        vae = AutoencoderTiny.from_pretrained(folder / "vae", **quiet("vae", folder)).eval()
        schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        adapter = None
        if (folder / "adapter").is_dir():
            adapter = T2IAdapter.from_pretrained(folder / "adapter", **quiet("adapter", folder))
    except (OSError, ValueError, KeyError) as error:
        raise BadSetup(f"the model {model.name} in {folder} cannot be loaded: {error}") from error
    painter = DiffusionPainter(
        Denoiser(unet, adapter).eval(),
        vae,
        schedule,
        open_conditions(about, folder, adapter and vae, patch_of(unet.config.in_channels, vae)),
    )
    if (folder / "upscaler").is_dir():
        painter.upscaler = open_upscaler(folder / "upscaler")
    return painter


def quiet(part: str, folder: Path) -> dict[str, Any]:
    """Options for safetensors only, local files only, float32; the fp16 variant when that is what lies there."""
    options: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "torch_dtype": torch.float32,
    }
    if any((folder / part).glob("*.fp16.safetensors")):
        options["variant"] = "fp16"
    return options
