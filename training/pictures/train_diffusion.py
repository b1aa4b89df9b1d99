"""Train the picture model: a latent diffusion UNet conditioned on MiniLM token states, or on a class label.

Some captions are dropped for classifier-free guidance (Ho & Salimans 2022). Drawings, if the data set has any, reach
the UNet as sheets through a T2I adapter.
"""

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, T2IAdapter, UNet2DConditionModel, UNet2DModel
from PIL import Image
from torch import Tensor, nn

from memo import BadSetup
from memo.minilm import DIMENSION
from training import OnRow
from training.captioned_pictures import open_captioned_pictures
from training.checkpoint import DATASET, LossTable, load_state, open_run, save_state, step_generator, update_average
from training.knobs import from_arguments
from training.thread_pool import open_pool
from worker.engine.denoiser import Conditioning, Denoiser
from worker.engine.latents import decode
from worker.engine.text_encoder import open_text_encoder
from worker.stickers.sheet import sheet_latents

from .dataset import PictureDataset, open_dataset
from .objective import STEPS, Objective, make_objective, sampler_config

log = logging.getLogger(__name__)

SAMPLES = 16  # pictures in `samples.png`
NORM_GROUPS = 16  # of each layer's channels, normalised together


@dataclass(frozen=True)
class Knobs:
    """One diffusion run."""

    pairs: Path = Path("var/train/scenes")
    vae: Path = Path("var/train/vae/vae")
    out: Path = Path("var/train/diffusion")
    begin: str = ""  # run folder whose weights to start from, instead of random ones
    target: str = "v"  # epsilon | v | flow
    schedule: str = "cosine"  # linear | scaled-linear | cosine
    steps: int = 8000
    batch: int = 16
    learning_rate: float = 8e-4
    patch: int = 2  # side of the square of latents that forms one cell
    channels: tuple[int, ...] = (112, 128, 160)  # of the levels, from 16×16 downwards
    heads: int = 4
    adapter_blocks: int = 1  # per level, in the adapter that reads the sheets
    dropped_captions: float = 0.1  # share of the captions
    dropped_sheets: float = 0.05  # share of the sheets
    snr_cap: float = 5.0  # see `objective`
    ema: float = 0.999
    bf16: bool = False  # autocast; on a CPU without bfloat16 units 2–3 times slower
    device: str = "cpu"  # or "cuda"
    seed: int = 1
    threads: int = 2
    log_every: int = 25
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class Batch:
    """Noisy latents (n, channels, h, w), timesteps (n), conditioning, target to predict, loss weights (n)."""

    noisy: Tensor
    timesteps: Tensor
    conditioning: Conditioning
    target: Tensor
    loss_weight: Tensor

    def split(self, parts: int) -> Iterator["Batch"]:
        """At most `parts` batches of nearly equal size."""
        columns = (self.noisy, self.timesteps, self.conditioning, self.target, self.loss_weight)
        for rows in zip(*(column.chunk(parts) for column in columns), strict=True):
            yield Batch(*rows)

    def to(self, device: str) -> "Batch":
        """The batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def train(knobs: Knobs, *, on_row: OnRow | None = None) -> Path:
    """Train, or resume, to `knobs.steps`; returns the run folder, with the averaged `unet/` and `adapter/`.

    Raises BadSetup for channels that the UNet cannot have.
    """
    check_channels(knobs.channels)
    objective = make_objective(knobs.target, knobs.schedule, knobs.snr_cap)
    pairs = open_captioned_pictures(knobs.pairs)
    vae = AutoencoderTiny.from_pretrained(knobs.vae).eval().requires_grad_(False)
    folder = open_run(knobs)
    dataset = open_dataset(folder / DATASET, pairs, vae, open_text_encoder, knobs.pairs, knobs.patch)
    return train_on(knobs, folder, dataset, objective, vae, on_row=on_row)


def check_channels(channels: Sequence[int]) -> None:
    """Raise BadSetup unless every level's channels can be normalised in groups."""
    if wrong := [number for number in channels if number < NORM_GROUPS or number % NORM_GROUPS]:
        raise BadSetup(
            f"--channels {','.join(map(str, channels))}: {wrong[0]} is no multiple of {NORM_GROUPS}, as each must be"
        )


def train_on(
    knobs: Knobs,
    folder: Path,
    dataset: PictureDataset,
    objective: Objective,
    vae: Any,
    *,
    on_row: OnRow | None = None,
) -> Path:
    """Train on an encoded data set; returns the run folder."""
    model, dataset = build_model(knobs, dataset).to(knobs.device), dataset.to(knobs.device)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    step = load_state(folder, model=model, ema=ema, optimizer=optimizer)
    table, last_checkpoint = LossTable(folder / "loss.csv", ("loss",), step=step, on_row=on_row), time.monotonic()
    pool = open_pool(knobs.threads)
    while step < knobs.steps:
        set_learning_rate(optimizer, knobs, step)
        optimizer.zero_grad()
        loss = backward(
            model,
            draw_batch(dataset, knobs, objective, step_generator(knobs.seed, step)).to(knobs.device),
            pool,
            knobs,
        )
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(ema, model, step=step, max_decay=knobs.ema)
        step += 1
        table.add(loss)
        if step % knobs.log_every == 0:
            log.info("step,loss %s", table.write(step))
            if time.monotonic() - last_checkpoint > 60 * knobs.checkpoint_minutes:
                save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
                save_results(folder, ema, vae, dataset, knobs)
                last_checkpoint = time.monotonic()
    save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
    save_results(folder, ema, vae, dataset, knobs)
    return folder


def build_model(knobs: Knobs, dataset: PictureDataset) -> Denoiser:
    """A denoiser of diffusers' stock modules, untrained unless `knobs.begin` names a run to start from."""
    unet_class = UNet2DModel if dataset.labels else UNet2DConditionModel
    if knobs.begin:
        adapter = T2IAdapter.from_pretrained(f"{knobs.begin}/adapter") if dataset.sheets else None
        return Denoiser(unet_class.from_pretrained(f"{knobs.begin}/unet"), adapter).train()
    torch.manual_seed(knobs.seed)
    unet = unet_class(**unet_config(knobs, dataset))
    if dataset.sheets is None:
        return Denoiser(unet)
    channels = list(knobs.channels)
    return Denoiser(unet, T2IAdapter(dataset.sheets.channels, channels, knobs.adapter_blocks, downscale_factor=1))


def unet_config(knobs: Knobs, dataset: PictureDataset) -> dict[str, Any]:
    """The UNet's arguments.

    Text enters through cross-attention and, pooled, in every block; a label enters in every block only.
    """
    _, channels, side, _ = dataset.latents.shape
    shape = {
        "sample_size": side,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": knobs.channels,
        "layers_per_block": 1,
        "norm_num_groups": NORM_GROUPS,
        "resnet_time_scale_shift": "scale_shift",
    }
    levels = len(knobs.channels)
    if dataset.labels:
        return {
            **shape,
            "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * (levels - 1)),
            "up_block_types": (*("AttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
            "attention_head_dim": 32,
            "num_class_embeds": len(dataset.labels) + 1,  # the last class is the unconditional one
        }
    return {
        **shape,
        "down_block_types": ("CrossAttnDownBlock2D",) * levels,
        "up_block_types": ("CrossAttnUpBlock2D",) * levels,
        "cross_attention_dim": DIMENSION,
        "attention_head_dim": knobs.heads,  # diffusers takes this as the number of heads
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 6,
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, knobs: Knobs, step: int) -> None:
    """Linear warm-up over 100 steps, constant, then linear decay over the last quarter of the steps."""
    decay = (knobs.steps - step) / (0.25 * knobs.steps)
    for group in optimizer.param_groups:
        group["lr"] = knobs.learning_rate * min(1.0, (step + 1) / 100, max(0.02, decay))


def draw_batch(dataset: PictureDataset, knobs: Knobs, objective: Objective, generator: torch.Generator) -> Batch:
    """A random batch with noise added; what the sheets show is subtracted from the latents first."""
    rows = torch.randint(len(dataset.latents), (knobs.batch,), generator=generator)
    drop_captions = torch.rand(knobs.batch, generator=generator) < knobs.dropped_captions
    drop_sheets = torch.rand(knobs.batch, generator=generator) < knobs.dropped_sheets
    conditioning, latents = dataset.conditioning(rows, drop_captions, drop_sheets), dataset.latents[rows].float()
    if conditioning.sheets is not None:
        latents = latents - sheet_latents(conditioning.sheets)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    timesteps = torch.randint(STEPS, (knobs.batch,), generator=generator)
    noisy, target = objective.add_noise(latents, noise, timesteps)
    return Batch(noisy, timesteps, conditioning, target, objective.loss_weight[timesteps])


def backward(model: Denoiser, batch: Batch, pool: ThreadPoolExecutor, knobs: Knobs) -> float:
    """Compute the gradients of a batch, in parts on several threads; returns the loss."""

    def backward_part(part: Batch) -> float:
        with torch.autocast(knobs.device, dtype=torch.bfloat16, enabled=knobs.bf16):
            predicted = model(part.noisy, part.timesteps, part.conditioning)
        error = (predicted.float() - part.target).square().mean((1, 2, 3))
        loss = (part.loss_weight * error).sum() / len(batch.loss_weight)
        loss.backward()
        value: float = loss.item()
        return value

    return sum(pool.map(backward_part, batch.split(1 if knobs.device == "cuda" else knobs.threads)))


def save_results(folder: Path, model: Denoiser, vae: Any, dataset: PictureDataset, knobs: Knobs) -> None:
    """Save the averaged model and `samples.png`: pictures of the data set above, model samples below them."""
    model.unet.save_pretrained(folder / "unet")
    if model.adapter is not None:
        model.adapter.save_pretrained(folder / "adapter")
    rows = torch.linspace(0, len(dataset.latents) - 1, min(SAMPLES, len(dataset.latents))).long()
    painted = sample(model, vae, dataset, rows, knobs)
    true = decode(vae, dataset.latents[rows].float().cpu(), knobs.patch).clamp(-1, 1)
    columns = min(8, len(rows))
    lines = [part[start : start + columns] for start in range(0, len(rows), columns) for part in (true, painted)]
    image_grid(torch.cat(lines), columns=columns).save(folder / "samples.png")


@torch.no_grad()
def sample(
    model: Denoiser,
    vae: Any,
    dataset: PictureDataset,
    rows: Tensor,
    knobs: Knobs,
    *,
    steps: int = 16,
    guidance: float = 2.0,
) -> Tensor:
    """Sample pictures for the captions of these rows, (n, 3, height, width) in -1..1, by DPM-Solver++ 2M.

    Source: Lu et al. 2022.
    """
    scheduler = DPMSolverMultistepScheduler(**sampler_config(knobs.target, knobs.schedule))
    scheduler.set_timesteps(steps)
    nothing_dropped = torch.zeros(len(rows), dtype=torch.bool)
    conditioning, unconditional = (
        dataset.conditioning(rows, drop_captions, nothing_dropped).to(knobs.device)
        for drop_captions in (nothing_dropped, ~nothing_dropped)
    )
    shape = (len(rows), *dataset.latents.shape[1:])
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(knobs.device)
    for timestep in scheduler.timesteps.to(knobs.device):
        timesteps = timestep.expand(len(rows))
        negative, positive = (model(latents, timesteps, inputs) for inputs in (unconditional, conditioning))
        latents = scheduler.step(negative + guidance * (positive - negative), timestep, latents).prev_sample
    if conditioning.sheets is not None:
        latents = latents + sheet_latents(conditioning.sheets)
    return decode(vae, latents.cpu(), knobs.patch).clamp(-1, 1)


def image_grid(pictures: Tensor | Sequence[Tensor], *, columns: int) -> Image.Image:
    """A grid of pictures (n, 3, height, width) in -1..1, `columns` per row; an incomplete last row is left out."""
    rows = [torch.cat(list(pictures[start : start + columns]), dim=2) for start in range(0, len(pictures), columns)]
    grid = torch.cat([row for row in rows if row.shape == rows[0].shape], dim=1)
    return Image.fromarray(((grid + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
