"""Train the picture model: a latent diffusion UNet that listens to MiniLM token states.

v-prediction (Salimans & Ho 2022) on the cosine schedule (Nichol & Dhariwal 2021), captions dropped at times for
classifier-free guidance (Ho & Salimans 2022). Pictures and captions come as `Pairs`; it does not know how they were
made, nor how the result is shipped.
"""

import copy
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from memo.minilm import WIDTH
from worker.text import TextEncoder, open_text_encoder

from .checkpoint import LossTable, average, generator_of, load_state, open_run, save_state
from .knobs import from_arguments
from .pairs import Pairs, open_pairs
from .vae import to_tensor

log = logging.getLogger(__name__)

SCHEDULE = {
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "num_train_timesteps": 1000,
}
SAMPLER = {
    **SCHEDULE,
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
PROMPTS = (
    "a red fox in the snow",
    "three cats",
    "a yellow car on a blue background",
    "a house at night",
    "a penguin on the beach",
    "a blue dragon",
    "two red apples",
    "a rocket in space",
    "a sunflower in a field",
    "a robot next to a heart",
    "a purple unicorn on a yellow background",
    "a castle at sunset",
    "a puppy in the rain",
    "a slice of pizza",
    "a green heart on a pink background",
    "a fish under water",
)


@dataclass(frozen=True)
class Knobs:
    """One diffusion run."""

    pairs: Path = Path("var/train/scenes")
    vae: Path = Path("var/train/vae/vae")
    out: Path = Path("var/train/diffusion")
    begin: str = ""  # folder of a trained UNet to go on from, instead of chance
    steps: int = 3000
    batch: int = 16
    learning_rate: float = 8e-4
    channels: tuple[int, ...] = (64, 128, 192)  # of the levels, from 16×16 downwards
    heads: int = 4
    dropped_captions: float = 0.1
    snr_cap: float = 5.0  # see `loss_weight`
    ema: float = 0.999
    seed: int = 1
    threads: int = 2
    log_every: int = 25
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class Lesson:
    """What a run learns from, computed once.

    `latents` (pictures, 4, h, w), `states` (captions, 24, 384), both float16; picture i has caption `caption_of[i]`.
    `unconditional` (24, 384) are the states of the empty prompt.
    """

    latents: Tensor
    states: Tensor
    caption_of: Tensor
    unconditional: Tensor


@dataclass(frozen=True)
class Batch:
    """Noisy latents (n, 4, h, w), timesteps (n), text states (n, 24, 384), the v to predict, weights (n)."""

    noisy: Tensor
    timesteps: Tensor
    states: Tensor
    target: Tensor
    weight: Tensor

    def split(self, parts: int) -> list["Batch"]:
        """As equal as can be, fewer if there are not enough rows."""
        return [Batch(*rows) for rows in zip(*(tensor.chunk(parts) for tensor in vars(self).values()), strict=True)]


def train(knobs: Knobs) -> Path:
    """Run or resume to `knobs.steps`; returns the run folder, with the averaged model in `unet/`."""
    torch.set_num_threads(1)  # within an operation; see `backward`
    encode = open_text_encoder()
    vae = AutoencoderTiny.from_pretrained(knobs.vae).eval().requires_grad_(False)
    pairs = open_pairs(knobs.pairs)
    folder = open_run(knobs)
    return learn(knobs, folder, open_lesson(folder / "lesson.pt", pairs, vae, encode), vae, encode)


def learn(knobs: Knobs, folder: Path, lesson: Lesson, vae: AutoencoderTiny, encode: TextEncoder) -> Path:
    """The loop itself."""
    model = build(knobs, side=lesson.latents.shape[-1])
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    step = load_state(folder, model=model, ema=ema, optimizer=optimizer)
    table, saved = LossTable(folder / "loss.csv", ("loss",), step=step), time.monotonic()
    kept = DDPMScheduler(**SCHEDULE).alphas_cumprod
    pool = ThreadPoolExecutor(knobs.threads, initializer=torch.set_num_threads, initargs=(1,))
    while step < knobs.steps:
        set_rate(optimizer, knobs, step)
        optimizer.zero_grad()
        loss = backward(model, draw(lesson, knobs, kept, generator_of(knobs.seed, step)), pool, knobs.threads)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average(ema, model, step=step, longest=knobs.ema)
        step += 1
        table.add(loss)
        if step % knobs.log_every == 0:
            log.info("step,loss %s", table.write(step))
            if time.monotonic() - saved > 60 * knobs.checkpoint_minutes:
                save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
                report(folder, ema, vae, encode)
                saved = time.monotonic()
    save_state(folder, step=step, model=model, ema=ema, optimizer=optimizer)
    report(folder, ema, vae, encode)
    return folder


def open_lesson(path: Path, pairs: Pairs, vae: AutoencoderTiny, encode: TextEncoder) -> Lesson:
    """The lesson kept at `path`, made first if there is none."""
    if not path.exists():
        lesson = make_lesson(pairs, vae, encode)
        torch.save(vars(lesson), path)
    return Lesson(**torch.load(path, weights_only=True))


@torch.no_grad()
def make_lesson(pairs: Pairs, vae: AutoencoderTiny, encode: TextEncoder) -> Lesson:
    """Every picture through the autoencoder, every different caption through the text model."""
    captions = sorted(set(pairs.captions))
    row_of = {caption: row for row, caption in enumerate(captions)}
    latents = []
    for start in range(0, len(pairs.images), 64):
        latents.append(vae.encode(to_tensor(np.array(pairs.images[start : start + 64]))).latents.half())
    return Lesson(
        latents=torch.cat(latents) * vae.config.scaling_factor,
        states=encode(captions).half(),
        caption_of=torch.tensor([row_of[caption] for caption in pairs.captions]),
        unconditional=encode([""])[0].half(),
    )


def build(knobs: Knobs, *, side: int) -> UNet2DConditionModel:
    """A stock UNet, untrained unless begun from another.

    The text reaches it by cross-attention below full size and, pooled, in every block.
    """
    if knobs.begin:
        return UNet2DConditionModel.from_pretrained(knobs.begin).train()
    torch.manual_seed(knobs.seed)
    deeper = len(knobs.channels) - 1
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=4,
        out_channels=4,
        block_out_channels=knobs.channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * deeper),
        up_block_types=(*("CrossAttnUpBlock2D",) * deeper, "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=knobs.heads,  # diffusers takes this as the number of heads
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=6,
    )


def set_rate(optimizer: torch.optim.Optimizer, knobs: Knobs, step: int) -> None:
    """Warm up over 100 steps, stay, fall in a line over the last quarter; more steps can be added to a run."""
    left = (knobs.steps - step) / (0.25 * knobs.steps)
    for group in optimizer.param_groups:
        group["lr"] = knobs.learning_rate * min(1.0, (step + 1) / 100, max(0.02, left))


def draw(lesson: Lesson, knobs: Knobs, kept: Tensor, chance: torch.Generator) -> Batch:
    """A random batch, noised; `kept` is the signal power left at each timestep."""
    rows = torch.randint(len(lesson.latents), (knobs.batch,), generator=chance)
    latents = lesson.latents[rows].float()
    states = lesson.states[lesson.caption_of[rows]].float()
    states[torch.rand(knobs.batch, generator=chance) < knobs.dropped_captions] = lesson.unconditional.float()
    noise = torch.randn(latents.shape, generator=chance)
    timesteps = torch.randint(len(kept), (knobs.batch,), generator=chance)
    power = kept[timesteps].view(-1, 1, 1, 1)
    signal, spread = power.sqrt(), (1 - power).sqrt()
    noisy, target = signal * latents + spread * noise, signal * noise - spread * latents
    return Batch(noisy, timesteps, states, target, loss_weight(power.flatten(), knobs.snr_cap))


def backward(model: UNet2DConditionModel, batch: Batch, pool: ThreadPoolExecutor, parts: int) -> float:
    """Add the batch's gradients to the model's and return its loss.

    Each thread takes its own part from beginning to end: on a machine that others use, too, threads that meet at
    every operation wait for each other most of the time. Two parts' sum does not depend on which comes first.
    """

    def one(part: Batch) -> float:
        predicted = model(part.noisy, part.timesteps, encoder_hidden_states=part.states).sample
        error = (predicted - part.target).square().mean((1, 2, 3))
        loss = (part.weight * error).sum() / len(batch.weight)
        loss.backward()
        value: float = loss.item()
        return value

    return sum(pool.map(one, batch.split(parts)))


def loss_weight(power: Tensor, cap: float) -> Tensor:
    """Weight of the v-error at signal power a: min(SNR + 1, cap) / (SNR + 1), with SNR + 1 = 1 / (1 - a).

    Like min-SNR (Hang et al. 2023) it caps what nearly clean pictures count, but keeps the full weight of very
    noisy ones, where a small model must learn what thing is meant.
    """
    return (cap * (1 - power)).clamp(max=1.0)


def report(folder: Path, model: UNet2DConditionModel, vae: AutoencoderTiny, encode: TextEncoder) -> None:
    """Save the averaged model and `samples.png`."""
    model.save_pretrained(folder / "unet")
    pictures = sample(model, vae, encode(PROMPTS), encode([""]), steps=16, guidance_scale=3.0)
    sheet(pictures, columns=4).save(folder / "samples.png")


@torch.no_grad()
def sample(
    model: UNet2DConditionModel,
    vae: AutoencoderTiny,
    states: Tensor,
    unconditional: Tensor,
    *,
    steps: int,
    guidance_scale: float,
    seed: int = 0,
) -> Tensor:
    """(n, 3, height, width) in -1..1 for (n, 24, 384) states, by DPM-Solver++ 2M (Lu et al. 2022)."""
    scheduler = DPMSolverMultistepScheduler(**SAMPLER)
    scheduler.set_timesteps(steps)
    side, both = model.config.sample_size, torch.cat([unconditional.expand_as(states), states])
    latents = torch.randn((len(states), 4, side, side), generator=torch.Generator().manual_seed(seed))
    for timestep in scheduler.timesteps:
        without, given = model(torch.cat([latents] * 2), timestep, encoder_hidden_states=both).sample.chunk(2)
        latents = scheduler.step(without + guidance_scale * (given - without), timestep, latents).prev_sample
    pictures: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return pictures.clamp(-1, 1)


def sheet(pictures: Tensor | Sequence[Tensor], *, columns: int) -> Image.Image:
    """All pictures, (n, 3, height, width) in -1..1, in rows of `columns`."""
    rows = [torch.cat(list(pictures[start : start + columns]), dim=2) for start in range(0, len(pictures), columns)]
    whole = torch.cat([row for row in rows if row.shape == rows[0].shape], dim=1)
    return Image.fromarray(((whole + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
