"""Pack finished runs into a standard diffusers folder that painters load. Knows no training."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from memo.errors import BadSetup
from worker.text import TOKENS

from .diffusion import SAMPLER
from .knobs import from_arguments

SHARD = "15MB"  # of weights in one file at most


@dataclass(frozen=True)
class Knobs:
    """What to pack, where to, and what painters should use by default."""

    vae: Path = Path("var/train/vae")
    diffusion: Path = Path("var/train/diffusion")
    out: Path = Path("models/stickers")
    title: str = "Stickers (first sketch): coloured shapes of friendly 3D things, in a second on two cores"
    licence: str = "Apache-2.0; trained on Fluent Emoji (MIT, Microsoft Corporation)"
    steps: int = 12
    guidance_scale: float = 3.0


def ship(knobs: Knobs) -> Path:
    """Write `knobs.out` in float16, keeping the model card that lies there; returns it.

    Readers see the old folder or the new one, never a half-written one; raises BadSetup when a run is missing.
    """
    fresh = knobs.out.with_name(f".{knobs.out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline = assemble(knobs)
    pipeline.save_pretrained(fresh, max_shard_size=SHARD)
    for weights in fresh.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors writes them for the owner only
    (fresh / "model.json").write_text(json.dumps(describe(knobs, fresh, pipeline), indent=2) + "\n")
    if (card := knobs.out / "README.md").exists():
        shutil.copy(card, fresh)
    swap(fresh, knobs.out)
    return knobs.out


def assemble(knobs: Knobs) -> StableDiffusionPipeline:
    """The runs' averaged weights as a stock pipeline without its own text model."""
    for folder in (knobs.vae / "vae", knobs.diffusion / "unet"):
        if not (folder / "config.json").exists():
            raise BadSetup(f"{folder} holds no model; train it first")
    return StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(knobs.vae / "vae").half(),
        unet=UNet2DConditionModel.from_pretrained(knobs.diffusion / "unet").half(),
        scheduler=DPMSolverMultistepScheduler(**SAMPLER),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def describe(knobs: Knobs, folder: Path, pipeline: StableDiffusionPipeline) -> dict[str, Any]:
    """`model.json`: what a painter must know that the diffusers files do not say; sizes in px."""
    native = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    return {
        "name": knobs.out.name,
        "title": knobs.title,
        "licence": knobs.licence,
        "revision": fingerprint(folder),
        "native_size": native,
        "text": "minilm-tokens",
        "tokens": TOKENS,
        "defaults": {
            "steps": knobs.steps,
            "guidance_scale": knobs.guidance_scale,
            "sampler": "dpm++2m",
            "schedule": "native",
        },
        "sizes": [native, 2 * native, 4 * native],
    }


def fingerprint(folder: Path) -> str:
    """Twelve hex digits that change with any weight."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def swap(fresh: Path, place: Path) -> None:
    """Put the finished folder in place by renaming."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    ship(from_arguments(Knobs, __doc__))
