"""Pack finished runs into a standard diffusers folder, which the worker loads as a model."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
    UNet2DModel,
)
from PIL import Image

from disk.durable_files import move_durably
from memo.errors import BadSetup
from training.knobs import from_arguments
from worker.engine.text_encoder import TOKENS, open_text_encoder
from worker.painters.conditioning import BANK
from worker.stickers.retrieve import save_name_vectors
from worker.stickers.sprites import open_bank, write_bank

from .objective import sampler_config

MAX_SHARD_SIZE = "15MB"  # of weights in one file
WITHOUT_TEXT_MODEL = {
    "text_encoder": None,
    "tokenizer": None,
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
}


@dataclass(frozen=True)
class Knobs:
    """Which runs to pack, where to, and the default settings of the model."""

    vae: Path = Path("var/train/vae/vae")
    diffusion: Path = Path("var/train/diffusion")
    upscaler: str = ""  # run folder of an upscaler; "" = enlarge with a plain filter
    bank: str = ""  # sprite bank to pack with a model that uses sheets of drawings
    sprite_side: int = 100  # px of the longer side of a packed drawing
    out: Path = Path("models/stickers")
    title: str = "Stickers: friendly drawn things, in a second on two cores"
    licence: str = "Apache-2.0; drawings: Fluent Emoji (MIT), Noto Emoji (Apache-2.0), Twemoji (CC-BY 4.0)"
    held_out: int = 0  # every n-th drawing of the bank was held out of training; 0 = none
    steps: int = 12
    guidance_scale: float = 2.0


def pack_model(knobs: Knobs) -> Path:
    """Write the model folder `knobs.out` in float16, keeping an existing model card; returns the folder.

    Readers never see a half-written folder. Raises BadSetup if a run is missing.
    """
    run = read_run(knobs)
    new_folder = knobs.out.with_name(f".{knobs.out.name}.new")
    shutil.rmtree(new_folder, ignore_errors=True)
    save_networks(knobs, run, new_folder)
    if knobs.upscaler:
        shutil.copytree(Path(knobs.upscaler) / "upscaler", new_folder / "upscaler")
    if knobs.bank:
        pack_bank(Path(knobs.bank), new_folder / BANK, knobs.sprite_side)
    for weights in new_folder.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors lets only the owner read them
    (new_folder / "model.json").write_text(json.dumps(model_json(knobs, run, new_folder), indent=2) + "\n")
    if (card := knobs.out / "README.md").exists():
        shutil.copy(card, new_folder)
    replace_folder(new_folder, knobs.out)
    return knobs.out


def read_run(knobs: Knobs) -> dict[str, Any]:
    """The knobs of the diffusion run; raises BadSetup if it or the autoencoder has no weights yet."""
    for folder in (knobs.vae, knobs.diffusion / "unet"):
        if not (folder / "config.json").exists():
            raise BadSetup(f"{folder} holds no model; train it first")
    if (knobs.diffusion / "adapter").exists() and not knobs.bank:
        raise BadSetup(f"{knobs.diffusion} uses sheets of drawings; name the bank to pack with it: --bank FOLDER")
    run: dict[str, Any] = json.loads((knobs.diffusion / "config.json").read_text())
    return run


def save_networks(knobs: Knobs, run: dict[str, Any], folder: Path) -> None:
    """Save the averaged weights as a stock diffusers pipeline without a text model; with labels, as parts only."""
    vae = AutoencoderTiny.from_pretrained(knobs.vae).half()
    scheduler = DPMSolverMultistepScheduler(**sampler_config(run["target"], run["schedule"]))
    if read_labels(knobs.diffusion):  # no stock pipeline takes labels and decodes latents
        for name, part in (("vae", vae), ("scheduler", scheduler)):
            part.save_pretrained(folder / name)
        unet = UNet2DModel.from_pretrained(knobs.diffusion / "unet").half()
        unet.save_pretrained(folder / "unet", max_shard_size=MAX_SHARD_SIZE)
        return
    unet = UNet2DConditionModel.from_pretrained(knobs.diffusion / "unet").half()
    parts = {"vae": vae, "unet": unet, "scheduler": scheduler, **WITHOUT_TEXT_MODEL}
    if (knobs.diffusion / "adapter").exists():
        adapter = T2IAdapter.from_pretrained(knobs.diffusion / "adapter").half()
        StableDiffusionAdapterPipeline(adapter=adapter, **parts).save_pretrained(
            folder, max_shard_size=MAX_SHARD_SIZE
        )
    else:
        StableDiffusionPipeline(**parts).save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)


def read_labels(run: Path) -> Sequence[str]:
    """The classes of the run, in the order of their numbers; empty for a run with captions."""
    labels: Sequence[str] = torch.load(run / "dataset.pt", weights_only=True, mmap=True)["labels"]
    return labels


def pack_bank(source: Path, folder: Path, side: int) -> None:
    """Write the bank with smaller drawings and the embeddings of its names."""
    bank, encoder = open_bank(source), open_text_encoder()
    drawings = {
        style: {
            sprite.key: Image.fromarray(bank.pixels(sprite, style))
            for sprite in bank.sprites
            if style in bank.styles_of(sprite)
        }
        for style in bank.styles
    }
    write_bank(folder, bank.sprites, drawings, side=side)
    save_name_vectors(open_bank(folder), lambda names: encoder.embed(names).numpy())


def model_json(knobs: Knobs, run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The content of `model.json`: everything that the diffusers files do not say; sizes in px."""
    side = json.loads((folder / "unet" / "config.json").read_text())["sample_size"]
    levels = len(json.loads((folder / "vae" / "config.json").read_text())["encoder_block_out_channels"])
    native = side * run["patch"] * 2 ** (levels - 1)
    labels = list(read_labels(knobs.diffusion))
    own_fields: dict[str, Any] = {"labels": labels} if labels else {"text": "minilm-tokens", "tokens": TOKENS}
    if run["target"] == "flow":
        own_fields["samplers"], own_fields["schedules"] = ["dpm++2m", "euler"], ["native"]
    if knobs.held_out:
        own_fields["held_out"] = knobs.held_out
    return {
        "name": knobs.out.name,
        "title": knobs.title,
        "licence": knobs.licence,
        "revision": fingerprint(folder),
        "native_size": native,
        **own_fields,
        "defaults": {
            "steps": knobs.steps,
            "guidance_scale": knobs.guidance_scale,
            "sampler": "dpm++2m",
            "schedule": "native",
        },
        "sizes": [native, 2 * native, 4 * native],
    }


def fingerprint(folder: Path) -> str:
    """Twelve hex digits that change with every weight and drawing."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".zip")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def replace_folder(new_folder: Path, target: Path) -> None:
    """Rename the finished folder into place; for an instant there is none."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    move_durably(new_folder, target)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    pack_model(from_arguments(Knobs, __doc__))
