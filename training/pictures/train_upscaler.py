"""Train the upscaler, which enlarges the picture model's pictures two or four times.

It learns from large pictures and shrunken copies of them. The copies are reduced by area and, for a latent model,
passed through its autoencoder, so that the network also corrects the softness of that autoencoder. Pixel and edge
losses only.
"""

import copy
import json
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from disk.durable_files import move_durably
from memo.errors import BadSetup
from training import OnRow
from training.captioned_pictures import MIN_PICTURES, open_captioned_pictures
from training.checkpoint import STATE, LossTable, load_state, open_run, save_state, step_generator, update_average
from training.knobs import from_arguments
from training.thread_pool import open_pool
from worker.engine.upscaler import SCALES, EnlargingNetwork, save_upscaler

from .train_vae import split_batches, to_tensor

log = logging.getLogger(__name__)

SMALL = "small.npy"
BATCH_SIZE = 16  # pictures that the autoencoder processes at once
SAMPLES = 6  # pictures in `samples.png`


@dataclass(frozen=True)
class Knobs:
    """One upscaler run."""

    pairs: Path = Path("var/train/scenes256")
    vae: str = "var/train/vae/vae"  # autoencoder that the small pictures pass through; "" = none
    out: Path = Path("var/train/upscaler")
    scale: int = 2  # or 4
    steps: int = 9000
    batch: int = 16
    crop: int = 64  # px of the large picture, a multiple of the scale
    held_out: int = 64  # last pictures of the data set, never trained on
    learning_rate: float = 1.5e-3
    width: int = 32
    blocks: int = 8
    ema: float = 0.998
    seed: int = 1
    threads: int = 2
    log_every: int = 50
    checkpoint_minutes: float = 3.0


def train(knobs: Knobs, *, on_row: OnRow | None = None) -> Path:
    """Train, or resume, to `knobs.steps`; returns the run folder, with the averaged network in `upscaler/`."""
    large = open_captioned_pictures(knobs.pairs).images
    check_knobs(knobs, large)
    vae = open_autoencoder(knobs.vae)
    check_side(large.shape[1], knobs.scale, vae)
    folder, pool = open_run(knobs), open_pool(knobs.threads)
    small = open_small_pictures(folder, large, knobs.scale, vae, pool)
    model = build_network(knobs)
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    step = load_state(folder, model=model, ema=ema, optimizer=optimizer)
    table = LossTable(folder / "loss.csv", ("loss", "l1"), step=step, on_row=on_row)
    last_checkpoint = time.monotonic()
    while step < knobs.steps:
        set_learning_rate(optimizer, knobs, step)
        inputs, targets = draw_crops(small, large, knobs, step_generator(knobs.seed, step))
        optimizer.zero_grad()
        loss, l1 = backward(model, inputs, targets, pool, knobs.threads)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(ema, model, step=step, max_decay=knobs.ema)
        step += 1
        table.add(loss, l1)
        if step % knobs.log_every == 0:
            log.info("step,loss,l1 %s", table.write(step))
            if time.monotonic() - last_checkpoint > 60 * knobs.checkpoint_minutes:
                save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
                save_results(folder, ema, large, small, knobs)
                last_checkpoint = time.monotonic()
    save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
    save_results(folder, ema, large, small, knobs)
    return folder


def check_knobs(knobs: Knobs, large: NDArray[np.uint8]) -> None:
    """Raise BadSetup for knobs that do not fit the pictures, (count, side, side, 3)."""
    count, side = large.shape[:2]
    if knobs.scale not in SCALES:
        raise BadSetup(f"scale must be {' or '.join(map(str, SCALES))}, not {knobs.scale}")
    if knobs.held_out < 1 or count < knobs.held_out + MIN_PICTURES:
        raise BadSetup(f"held_out {knobs.held_out} of {count} pictures: hold out at least 1 and leave {MIN_PICTURES}")
    if not 0 < knobs.crop <= side or knobs.crop % knobs.scale:
        raise BadSetup(
            f"crop {knobs.crop} must be a multiple of {knobs.scale} and at most {side}, the pictures' side"
        )


def check_side(side: int, scale: int, vae: Any) -> None:
    """Raise BadSetup unless the shrunken pictures consist of whole pixels and whole latents."""
    levels = len(vae.config.encoder_block_out_channels) if vae is not None else 1
    unit = scale * 2 ** (levels - 1)
    if side % unit:
        raise BadSetup(
            f"pictures of {side} px cannot be made {scale}× smaller: the side must be a multiple of {unit}"
        )


def open_autoencoder(folder: str) -> Any:
    """The `AutoencoderTiny` in a folder, or None for ""; raises BadSetup when it cannot be loaded."""
    if not folder:
        return None
    try:
        (Path(folder) / "config.json").stat()  # from_pretrained would take a missing folder for a name on the hub
        return AutoencoderTiny.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadSetup(f"vae {folder} holds no autoencoder: {error}") from error


def open_small_pictures(
    folder: Path, large: NDArray[np.uint8], scale: int, vae: Any, pool: ThreadPoolExecutor
) -> NDArray[np.uint8]:
    """The inputs of the network, (count, side / scale, side / scale, 3), computed once per run and kept on disk."""
    path = folder / SMALL
    if not (path.exists() and (folder / STATE).exists()):  # without a state the file may belong to another run
        write_small_pictures(path, large, scale, vae, pool)
    small: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return small


def write_small_pictures(
    path: Path, large: NDArray[np.uint8], scale: int, vae: Any, pool: ThreadPoolExecutor
) -> None:
    """Shrink all pictures and write them to a file; neither a kill nor a power cut leaves half of it."""
    count, side = len(large), large.shape[1] // scale
    new = path.with_suffix(".new")
    small = np.lib.format.open_memmap(new, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))

    def shrink_part(start: int) -> None:
        small[start : start + BATCH_SIZE] = shrink(large[start : start + BATCH_SIZE], scale, vae)

    list(pool.map(shrink_part, range(0, count, BATCH_SIZE)))
    small.flush()
    move_durably(new, path)


@torch.no_grad()
def shrink(images: NDArray[np.uint8], scale: int, vae: Any) -> NDArray[np.uint8]:
    """Reduce pictures by area and pass them through the autoencoder, if there is one; bytes in and out."""
    reduced = to_bytes(reduce_by_area(images, scale))
    if vae is None:
        return reduced
    return to_bytes(vae.decode(vae.encode(to_tensor(reduced)).latents).sample)


def reduce_by_area(images: NDArray[np.uint8], scale: int) -> Tensor:
    """Each pixel becomes the mean of a square: (n, 3, side / scale, side / scale) in -1..1."""
    return F.avg_pool2d(to_tensor(np.array(images)), scale)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """(n, 3, height, width) in -1..1 to (n, height, width, 3)."""
    pixels: NDArray[np.uint8] = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def build_network(knobs: Knobs) -> EnlargingNetwork:
    """An untrained network, the same for the same seed."""
    torch.manual_seed(knobs.seed)
    return EnlargingNetwork(scale=knobs.scale, width=knobs.width, blocks=knobs.blocks)


def set_learning_rate(optimizer: torch.optim.Optimizer, knobs: Knobs, step: int) -> None:
    """Warm up over 100 steps, then decay on a cosine to a fiftieth."""
    decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / knobs.steps))
    for group in optimizer.param_groups:
        group["lr"] = knobs.learning_rate * min(1.0, (step + 1) / 100) * decay


def draw_crops(
    small: NDArray[np.uint8], large: NDArray[np.uint8], knobs: Knobs, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Small and large crops of the same places, (batch, 3, crop / scale, …) and (batch, 3, crop, crop) in -1..1."""
    scale, side = knobs.scale, knobs.crop // knobs.scale
    rows = torch.randint(len(small) - knobs.held_out, (knobs.batch,), generator=generator).tolist()
    corners = torch.randint(small.shape[1] - side + 1, (knobs.batch, 2), generator=generator).tolist()
    places = [(row, y, x) for row, (y, x) in zip(rows, corners, strict=True)]
    inputs = [small[row, y : y + side, x : x + side] for row, y, x in places]
    targets = [large[row, scale * y : scale * (y + side), scale * x : scale * (x + side)] for row, y, x in places]
    return to_tensor(np.stack(inputs)), to_tensor(np.stack(targets))


def backward(
    model: EnlargingNetwork, inputs: Tensor, targets: Tensor, pool: ThreadPoolExecutor, threads: int
) -> tuple[float, float]:
    """Compute the gradients of a batch, in parts on several threads; returns its loss and mean absolute error."""

    def backward_part(small: Tensor, large: Tensor) -> tuple[float, float]:
        loss, l1 = losses(model(small) - large)
        weight = len(small) / len(inputs)
        torch.autograd.backward(loss * weight)
        return loss.item() * weight, l1.item() * weight

    results = pool.map(backward_part, inputs.chunk(threads), targets.chunk(threads))
    loss, l1 = (sum(column) for column in zip(*results, strict=True))
    return loss, l1


def losses(error: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, mean absolute error); an error at an edge counts again in the loss."""
    l1 = error.abs().mean()
    return l1 + edges(error), l1


def edges(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, across and down."""
    return images.diff(dim=3).abs().mean() + images.diff(dim=2).abs().mean()


@torch.no_grad()
def save_results(
    folder: Path, model: EnlargingNetwork, large: NDArray[np.uint8], small: NDArray[np.uint8], knobs: Knobs
) -> None:
    """Save the network, and for held-out pictures `figures.json` and `samples.png`: Lanczos, network, original."""
    true = to_tensor(np.array(large[-knobs.held_out :]))
    small_held_out = np.array(small[-knobs.held_out :])
    enlarged = {
        "network": torch.cat([model(part) for part in split_batches(to_tensor(small_held_out))]).clamp(-1, 1),
        "lanczos": resize_lanczos(small_held_out, knobs.scale),
    }
    if knobs.vae:
        enlarged["lanczos_without_vae"] = resize_lanczos(
            to_bytes(reduce_by_area(large[-knobs.held_out :], knobs.scale)), knobs.scale
        )
    figures = {name: measure_quality(pictures, true) for name, pictures in enlarged.items()}
    log.info("%s", figures)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2))
    columns = [torch.cat(list(part[:SAMPLES]), dim=1) for part in (enlarged["lanczos"], enlarged["network"], true)]
    Image.fromarray(to_bytes(torch.cat(columns, dim=2)[None])[0]).save(folder / "samples.png")
    save_upscaler(model, folder / "upscaler")


def measure_quality(enlarged: Tensor, true: Tensor) -> dict[str, float]:
    """`psnr` in dB, `edge_error` and `sharpness`, which is 1 for pictures as sharp as the original.

    The last two divide differences of neighbouring pixels, in the error or in the picture, by those in the original.
    """
    psnr = -10 * ((enlarged - true) / 2).square().mean((1, 2, 3)).log10()
    return {
        "psnr": psnr.mean().item(),
        "edge_error": (edges(enlarged - true) / edges(true)).item(),
        "sharpness": (edges(enlarged) / edges(true)).item(),
    }


def resize_lanczos(images: NDArray[np.uint8], scale: int) -> Tensor:
    """Enlarge (n, height, width, 3) bytes by a Lanczos filter to (n, 3, scale · height, scale · width) in -1..1."""
    size = (scale * images.shape[2], scale * images.shape[1])
    return to_tensor(
        np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) for image in images])
    )


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
