"""Stable Diffusion 1.x, 2.x and SDXL in diffusers' own layout, from a folder or the hub, for the step loop.

The stock pipeline loads the weights and reads prompts; denoising is the loop's. Safetensors only, no code of others.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from jobs.models import PIPELINE, REMOTE, STEPPED, as_size_range, painted_size
from memo import BadRecipe, BadSetup, Recipe
from worker.engine.adapters import Adapters
from worker.engine.denoiser import Conditioning
from worker.engine.device import Device

FAMILIES = dict(zip(STEPPED, (StableDiffusionPipeline, StableDiffusionXLPipeline), strict=True))


@dataclass(frozen=True, slots=True)
class Family:
    """The networks of one model, where they calculate."""

    unet: Any
    vae: Any
    schedule: Mapping[str, Any]
    conditions: "PromptConditions"
    adapters: Adapters
    guard: "Guard"


def open_family(about: Mapping[str, Any], folder: Path, device: Device) -> Family:
    """What `model.json` names: `family`, and perhaps `source` and `hub_revision`, else the folder itself.

    Raises BadSetup for an unknown family, and OSError or ValueError for weights that are missing or damaged.
    """
    kind = FAMILIES.get(about["family"])
    if kind is None:
        others = ", ".join((*FAMILIES, PIPELINE, *REMOTE))
        raise BadSetup(f"{folder}: the family {about['family']!r} is none of {others}")
    source: str = about.get("source", str(folder))
    options: dict[str, Any] = {"local_files_only": True}
    if "source" in about:
        options = {"revision": about["hub_revision"]}
    options["variant"] = about.get("variant")  # of the files, "fp16" say
    if about["family"] == "stable-diffusion" and not about.get("safety_checker", True):
        options["safety_checker"] = None
    pipe = kind.from_pretrained(source, dtype=device.kind, use_safetensors=True, **options)
    vae = device.take(pipe.vae)
    if device.kind == torch.float16 and vae.config.get("force_upcast"):
        vae = vae.float()  # SDXL's overflows in half precision
    for name in ("text_encoder", "text_encoder_2", "safety_checker"):
        if (part := getattr(pipe, name, None)) is not None:
            part.to(device.name, device.kind)
    unet = device.take(pipe.unet)
    pipe.unet = unet
    adapters = Adapters(pipe, folder)
    conditions = PromptConditions(pipe, device, as_size_range(about.get("size_range")), adapters)
    return Family(unet, vae, dict(pipe.scheduler.config), conditions, adapters, Guard(pipe, device))


class PromptConditions:
    """Both prompts as the model's own text encoders read them; for several threads."""

    def __init__(
        self, pipe: Any, device: Device, size_range: tuple[int, int, int] | None, adapters: Adapters
    ) -> None:
        self.pipe, self.device, self.size_range, self.adapters = pipe, device, size_range, adapters
        self.side = pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.double = hasattr(pipe, "text_encoder_2")
        self.lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, recipe: Recipe) -> Conditioning:
        """States (2, tokens, width), the negative prompt's first, or (1, …) where nothing is to be guided."""
        guided = recipe.guidance_scale > 1
        with self.lock:
            self.adapters.on_text(recipe.adapter)
            found = self.pipe.encode_prompt(
                recipe.prompt,
                device=self.device.name,
                num_images_per_prompt=1,
                do_classifier_free_guidance=guided,
                negative_prompt=(recipe.negative_prompt or None) if guided else None,
            )
        if not self.double:
            prompt, negative = found
            return Conditioning(torch.cat([negative, prompt]) if guided else prompt)
        prompt, negative, pooled, negative_pooled = found
        height, width = painted_size(recipe, self.side, self.size_range)
        frame = torch.tensor([[height, width, 0, 0, height, width]], dtype=pooled.dtype)
        if not guided:
            return Conditioning(prompt, pooled=pooled, frames=frame)
        return Conditioning(
            torch.cat([negative, prompt]), pooled=torch.cat([negative_pooled, pooled]), frames=frame.repeat(2, 1)
        )


class Guard:
    """The safety checker that a model ships, if it ships one."""

    def __init__(self, pipe: Any, device: Device) -> None:
        self.checker, self.extractor = getattr(pipe, "safety_checker", None), getattr(pipe, "feature_extractor", None)
        self.device = device
        self.lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, image: Image.Image, recipe: Recipe) -> None:
        """Raises BadRecipe for a picture that the checker refuses."""
        if self.checker is None or self.extractor is None:
            return
        seen = self.extractor(images=image, return_tensors="pt").pixel_values.to(self.device.name, self.device.kind)
        with self.lock:
            _, refused = self.checker(images=torch.zeros(1, 1, 1, 1), clip_input=seen)
        if refused[0]:
            raise BadRecipe(
                "prompt", recipe.prompt, f"{recipe.model}'s safety checker refused the picture: ask for another"
            )
