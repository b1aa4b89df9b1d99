"""Loads Stable Diffusion 1.x, 2.x and SDXL in diffusers' own layout, from a folder or the hub, for the step loop.

The stock pipeline loads the weights and encodes prompts; the loop does the denoising. It loads safetensors only, and
runs no code from the hub.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from jobs.models import PIPELINE, REMOTE_FAMILIES, STEP_LOOP_FAMILIES, painted_size, read_size_range
from memo import BadRecipe, BadSetup, Recipe
from worker.engine.adapters import Adapters
from worker.engine.denoiser import Conditioning
from worker.engine.device import Device
from worker.engine.text_encoder import explain_unread, find_unread

FAMILIES = dict(zip(STEP_LOOP_FAMILIES, (StableDiffusionPipeline, StableDiffusionXLPipeline), strict=True))


@dataclass(frozen=True, slots=True)
class Family:
    """The parts of one Stable Diffusion model, on their device."""

    unet: Any
    vae: Any
    schedule: Mapping[str, Any]
    conditioner: "PromptConditioner"
    adapters: Adapters
    safety_checker: "SafetyChecker"


def open_family(description: Mapping[str, Any], folder: Path, device: Device) -> Family:
    """Load a model by the `family` in its `model.json`, from its `source` at `hub_revision` or else from the folder.

    Raises BadSetup for an unknown family, and OSError or ValueError for missing or damaged weights.
    """
    kind = FAMILIES.get(description["family"])
    if kind is None:
        known = ", ".join((*FAMILIES, PIPELINE, *REMOTE_FAMILIES))
        raise BadSetup(f"{folder}: the family {description['family']!r} is not one of {known}")
    source: str = description.get("source", str(folder))
    options: dict[str, Any] = {"local_files_only": True}
    if "source" in description:
        options = {"revision": description["hub_revision"]}
    options["variant"] = description.get("variant")  # of the weight files, for example "fp16"
    if description["family"] == "stable-diffusion" and not description.get("safety_checker", True):
        options["safety_checker"] = None
    pipe = kind.from_pretrained(source, dtype=device.dtype, use_safetensors=True, **options)
    vae = device.move(pipe.vae)
    if device.dtype == torch.float16 and vae.config.get("force_upcast"):
        vae = vae.float()  # SDXL's autoencoder overflows in half precision
    for name in ("text_encoder", "text_encoder_2", "safety_checker"):
        if (part := getattr(pipe, name, None)) is not None:
            part.to(device.name, device.dtype)
    unet = device.move(pipe.unet)
    pipe.unet = unet
    adapters = Adapters(pipe, folder)
    conditioner = PromptConditioner(pipe, device, read_size_range(description.get("size_range")), adapters)
    return Family(unet, vae, dict(pipe.scheduler.config), conditioner, adapters, SafetyChecker(pipe, device))


class PromptConditioner:
    """Encodes both prompts with the model's own text encoders; safe to use from several threads."""

    def __init__(
        self, pipe: Any, device: Device, size_range: tuple[int, int, int] | None, adapters: Adapters
    ) -> None:
        self.pipe, self.device, self.size_range, self.adapters = pipe, device, size_range, adapters
        self.side = pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.is_sdxl = hasattr(pipe, "text_encoder_2")
        self.lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, recipe: Recipe) -> Conditioning:
        """States (2, tokens, dimension), the negative prompt's first; (1, tokens, dimension) without guidance."""
        guided = recipe.guidance_scale > 1
        with self.lock:
            self.adapters.set_text_encoders(recipe.adapter)
            encoded = self.pipe.encode_prompt(
                recipe.prompt,
                device=self.device.name,
                num_images_per_prompt=1,
                do_classifier_free_guidance=guided,
                negative_prompt=(recipe.negative_prompt or None) if guided else None,
            )
            notes = self.explain_unread(recipe.prompt)
        if not self.is_sdxl:
            prompt, negative = encoded
            return Conditioning(torch.cat([negative, prompt]) if guided else prompt, notes=notes)
        prompt, negative, pooled, negative_pooled = encoded
        height, width = painted_size(recipe, self.side, self.size_range)
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=pooled.dtype)
        if not guided:
            return Conditioning(prompt, pooled=pooled, time_ids=time_ids, notes=notes)
        return Conditioning(
            torch.cat([negative, prompt]),
            pooled=torch.cat([negative_pooled, pooled]),
            time_ids=time_ids.repeat(2, 1),
            notes=notes,
        )

    def explain_unread(self, prompt: str) -> tuple[str, ...]:
        """A note on the part of a prompt beyond the 77 tokens that the text encoder reads."""
        tokens = self.pipe.tokenizer.model_max_length
        return explain_unread(find_unread(self.pipe.tokenizer, prompt, tokens), tokens)


class SafetyChecker:
    """The model's own safety checker; accepts everything if the model has none."""

    def __init__(self, pipe: Any, device: Device) -> None:
        self.checker, self.extractor = getattr(pipe, "safety_checker", None), getattr(pipe, "feature_extractor", None)
        self.device = device
        self.lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, image: Image.Image, recipe: Recipe) -> None:
        """Raise BadRecipe for a picture that the checker refuses."""
        if self.checker is None or self.extractor is None:
            return
        pixels = self.extractor(images=image, return_tensors="pt").pixel_values
        with self.lock:
            _, refused = self.checker(
                images=torch.zeros(1, 1, 1, 1), clip_input=pixels.to(self.device.name, self.device.dtype)
            )
        if refused[0]:
            problem = f"{recipe.model}'s safety checker refused the picture; try another seed or prompt"
            raise BadRecipe("prompt", recipe.prompt, problem)
