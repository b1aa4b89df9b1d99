"""Train the autoencoder: 128 px pictures to 32×32×4 latents and back (4× smaller each way).

A stock `AutoencoderTiny` (after Ollin Boer Bohan's TAESD), trained on crops with pixel and edge losses only. Its
latents are held near mean 0 and standard deviation 1, so that the diffusion model needs no scaling.
"""

import copy
import json
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from memo.errors import BadSetup
from training import OnRow
from training.captioned_pictures import MIN_PICTURES, open_captioned_pictures
from training.checkpoint import LossTable, load_state, open_run, save_state, step_generator, update_average
from training.knobs import from_arguments
from training.thread_pool import open_pool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Knobs:
    """One autoencoder run."""

    pairs: Path = Path("var/train/scenes")
    out: Path = Path("var/train/vae")
    steps: int = 4000
    joint_steps: int = 2600  # then the encoder is frozen, so that latents computed from it stay valid
    batch: int = 16
    crop: int = 64  # px, a multiple of 4
    held_out: int = 64  # last pictures of the data set, never trained on
    learning_rate: float = 1.5e-3
    encoder_width: int = 32
    decoder_width: int = 48
    latent_channels: int = 4
    latent_noise: float = 0.08  # added in training, so that similar latents decode to similar pictures
    ema: float = 0.998
    seed: int = 1
    threads: int = 2
    log_every: int = 50
    checkpoint_minutes: float = 3.0


def train(knobs: Knobs, *, on_row: OnRow | None = None) -> Path:
    """Train, or resume, to `knobs.steps`; returns the run folder, with the averaged model in `vae/`."""
    images = open_captioned_pictures(knobs.pairs).images
    if knobs.held_out < 1 or len(images) < knobs.held_out + MIN_PICTURES:
        count = len(images)
        raise BadSetup(f"held_out {knobs.held_out} of {count} pictures: hold out at least 1 and leave {MIN_PICTURES}")
    training_images, held_out_images = images[: -knobs.held_out], np.array(images[-knobs.held_out :])
    folder = open_run(knobs)
    model = build_autoencoder(knobs)
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    step = load_state(folder, model=model, ema=ema, optimizer=optimizer)
    table = LossTable(folder / "loss.csv", ("loss", "l1"), step=step, on_row=on_row)
    last_checkpoint, pool = time.monotonic(), open_pool(knobs.threads)
    while step < knobs.steps:
        generator = step_generator(knobs.seed, step)
        set_learning_rate(optimizer, knobs, step)
        if step >= knobs.joint_steps:
            freeze_encoder(model.encoder, ema.encoder)
        optimizer.zero_grad()
        loss, l1 = backward(model, draw_crops(training_images, knobs, generator), knobs, generator, pool)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(ema, model, step=step, max_decay=knobs.ema)
        step += 1
        table.add(loss, l1)
        if step % knobs.log_every == 0:
            log.info("step,loss,l1 %s", table.write(step))
            if time.monotonic() - last_checkpoint > 60 * knobs.checkpoint_minutes:
                save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
                save_results(folder, ema, held_out_images)
                last_checkpoint = time.monotonic()
    save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
    save_results(folder, ema, held_out_images)
    return folder


def build_autoencoder(knobs: Knobs) -> AutoencoderTiny:
    """An untrained autoencoder whose residual blocks start close to the identity."""
    torch.manual_seed(knobs.seed)
    model = AutoencoderTiny(
        latent_channels=knobs.latent_channels,
        encoder_block_out_channels=(knobs.encoder_width,) * 3,
        decoder_block_out_channels=(knobs.decoder_width,) * 3,
        num_encoder_blocks=(0, 1, 1),  # few at full size, where they are expensive
        num_decoder_blocks=(3, 1, 0),
        scaling_factor=1.0,
    )
    for name, part in model.named_modules():
        if name.endswith("conv.4"):
            nn.init.normal_(part.weight, std=0.01)
        elif isinstance(part, nn.Conv2d) and ".conv." not in name and part.in_channels == part.out_channels:
            nn.init.dirac_(part.weight)
    return model.to(memory_format=torch.channels_last)


def set_learning_rate(optimizer: torch.optim.Optimizer, knobs: Knobs, step: int) -> None:
    """Warm up over 100 steps, then decay on a cosine to a fiftieth; it starts again once the encoder is frozen."""
    joint = min(knobs.joint_steps, knobs.steps)
    progress = step / joint if step < joint else (step - joint) / (knobs.steps - joint)
    decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = knobs.learning_rate * min(1.0, (step + 1) / 100) * decay


def freeze_encoder(encoder: nn.Module, averaged: nn.Module) -> None:
    """Replace the encoder's weights by the averaged ones and stop training it; repeating this changes nothing."""
    encoder.load_state_dict(averaged.state_dict())
    encoder.requires_grad_(False)


def draw_crops(images: NDArray[np.uint8], knobs: Knobs, generator: torch.Generator) -> Tensor:
    """Random crops of random pictures, (batch, 3, crop, crop) in -1..1."""
    free = images.shape[1] - knobs.crop + 1
    rows = torch.randint(len(images), (knobs.batch,), generator=generator).tolist()
    corners = torch.randint(free, (knobs.batch, 2), generator=generator).tolist()
    cut = [images[row, y : y + knobs.crop, x : x + knobs.crop] for row, (y, x) in zip(rows, corners, strict=True)]
    return to_tensor(np.stack(cut))


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(n, height, width, 3) bytes to (n, 3, height, width) in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1


def backward(
    model: AutoencoderTiny, images: Tensor, knobs: Knobs, generator: torch.Generator, pool: ThreadPoolExecutor
) -> tuple[float, float]:
    """Compute the gradients of a batch, in parts on several threads; returns its loss and mean absolute error."""
    side = knobs.crop // 2 ** (len(model.config.encoder_block_out_channels) - 1)
    shape = (len(images), model.config.latent_channels, side, side)
    noise = knobs.latent_noise * torch.randn(shape, generator=generator)

    def backward_part(part: Tensor, added: Tensor) -> tuple[float, float]:
        loss, l1 = losses(model, part, added)
        torch.autograd.backward(loss * (len(part) / len(images)))
        return loss.item() * len(part), l1.item() * len(part)

    results = list(pool.map(backward_part, images.chunk(knobs.threads), noise.chunk(knobs.threads)))
    loss, l1 = (sum(column) / len(images) for column in zip(*results, strict=True))
    return loss, l1


def losses(model: AutoencoderTiny, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, mean absolute error); the loss includes edges and holds the latents near N(0, 1)."""
    latents = model.encoder(images)
    error = model.decoder(latents + noise) - images
    edges = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
    l1 = error.abs().mean()
    spread = latents.mean((0, 2, 3)).square().mean() + (latents.std((0, 2, 3)) - 1).square().mean()
    loss = l1 + 0.5 * error.square().mean() + edges + 0.5 * F.avg_pool2d(error, 4).abs().mean() + 0.05 * spread
    return loss, l1


@torch.no_grad()
def save_results(folder: Path, model: AutoencoderTiny, images: NDArray[np.uint8]) -> None:
    """Save the model, and for held-out pictures `samples.png` (original above, rebuilt below) and `figures.json`."""
    true = to_tensor(images)
    latents = torch.cat([model.encoder(part) for part in split_batches(true)])
    rebuilt = torch.cat([model.decoder(part) for part in split_batches(latents)]).clamp(-1, 1)
    psnr = -10 * ((rebuilt - true) / 2).square().mean((1, 2, 3)).log10()
    figures = {
        "psnr": psnr.mean().item(),  # dB
        "latent_mean": latents.mean((0, 2, 3)).tolist(),
        "latent_std": latents.std((0, 2, 3)).tolist(),
    }
    log.info("%s", figures)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2))
    rows = torch.cat([torch.cat(list(part[:8]), dim=2) for part in (true, rebuilt)], dim=1)
    Image.fromarray(((rows + 1) * 127.5).byte().permute(1, 2, 0).numpy()).save(folder / "samples.png")
    model.save_pretrained(folder / "vae")


def split_batches(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensor in batches of sixteen rows."""
    parts: tuple[Tensor, ...] = torch.split(tensor, 16)
    return parts


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
