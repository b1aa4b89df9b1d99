"""A painter over a latent diffusion model in diffusers' folder layout: one recipe at a time, one step after another.

Knows no queue and no memory. Classifier-free guidance: https://arxiv.org/abs/2207.12598.
"""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from PIL import Image

from memo import BadSetup, Recipe

from .catalogue import Model
from .painter import OnStep
from .text import TextEncoder, open_text_encoder

SAMPLERS = {
    "dpm++2m": DPMSolverMultistepScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler-a": EulerAncestralDiscreteScheduler,
}


class DiffusionPainter:
    """UNet, decoder and text encoder of one model in float32 on the CPU."""

    device = "cpu float32"

    def __init__(self, unet: Any, vae: Any, schedule: dict[str, Any], text: TextEncoder, native: int) -> None:
        self.unet, self.vae, self.schedule, self.text, self.native = unet, vae, schedule, text, native

    @torch.inference_mode()
    def __call__(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """See Painter. Painted at the model's native size, then scaled to the recipe's."""
        generator = torch.Generator("cpu").manual_seed(seed_of(recipe))
        latents = self.denoise(recipe, generator, on_step)
        image = to_image(self.vae.decode(latents / self.vae.config.scaling_factor).sample)
        if image.size == (recipe.width, recipe.height):
            return image
        return image.resize((recipe.width, recipe.height), Image.Resampling.LANCZOS)

    def denoise(self, recipe: Recipe, generator: torch.Generator, on_step: OnStep) -> Any:
        """From noise to latents, shape (1, channels, side, side)."""
        scheduler = self.scheduler(recipe)
        scheduler.set_timesteps(recipe.steps)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # else it searches by timestep, and karras sigmas share timesteps
        side = self.unet.config.sample_size
        shape = (1, self.unet.config.in_channels, side, side)
        latents = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
        states = self.conditions(recipe)
        extra = {"generator": generator} if recipe.sampler == "euler-a" else {}
        for step, timestep in enumerate(scheduler.timesteps, start=1):
            scaled = scheduler.scale_model_input(latents, timestep)
            output = self.guided(scaled, timestep, states, recipe.guidance_scale)
            latents = scheduler.step(output, timestep, latents, **extra).prev_sample
            on_step(step)
        return latents

    def guided(
        self, latents: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The model's output for the prompt, pushed away from the one for the negative prompt."""
        rows = latents.expand(len(states), -1, -1, -1)
        output = self.unet(rows, timestep, encoder_hidden_states=states).sample
        if len(output) == 1:
            return torch.as_tensor(output)
        negative, positive = output.chunk(2)
        return torch.as_tensor(negative + scale * (positive - negative))

    def conditions(self, recipe: Recipe) -> torch.Tensor:
        """Token states, shape (2, tokens, width): negative, prompt; one row when nothing is to be guided."""
        if recipe.guidance_scale <= 1:
            return self.text([recipe.prompt])
        return self.text([recipe.negative_prompt, recipe.prompt])

    def scheduler(self, recipe: Recipe) -> Any:
        """A fresh diffusers scheduler for this recipe's sampler and schedule."""
        options = {"use_karras_sigmas": True} if recipe.schedule == "karras" else {}
        return SAMPLERS[recipe.sampler].from_config(self.schedule, **options)


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
    """Load the folder's UNet, decoder and scheduler settings; raises BadSetup naming what cannot be read."""
    torch.set_num_threads(threads)
    for library in (diffusers.logging, transformers.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        unet = UNet2DConditionModel.from_pretrained(model.folder / "unet", **quiet("unet", model.folder))
        vae = AutoencoderTiny.from_pretrained(model.folder / "vae", **quiet("vae", model.folder))
        schedule = json.loads((model.folder / "scheduler" / "scheduler_config.json").read_text())
        native = json.loads((model.folder / "model.json").read_text())["native_size"]
    except (OSError, ValueError, KeyError) as error:
        raise BadSetup(f"the model {model.name} in {model.folder} cannot be loaded: {error}") from error
    return DiffusionPainter(unet.eval(), vae.eval(), schedule, open_text_encoder(), native)


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
