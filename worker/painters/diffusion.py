"""A painter over a latent diffusion model in diffusers' folder layout, which paints several recipes in one step loop.

Knows no queue and no memory. Classifier-free guidance: https://arxiv.org/abs/2207.12598.
"""

import json
import logging
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderTiny, T2IAdapter, UNet2DConditionModel, UNet2DModel
from PIL import Image, ImageOps
from safetensors import SafetensorError
from torch import Tensor

from jobs.models import PIPELINE, Model, as_size_range, painted_size
from memo import BadSetup, Recipe, from_mapping
from worker.engine.batch_size import BatchSizes, measured
from worker.engine.compiled import Compiled
from worker.engine.decoder import Decoder
from worker.engine.denoiser import Denoiser
from worker.engine.device import Device, check_memory, open_device, weights_in
from worker.engine.energy import open_meter
from worker.engine.latent_preview import LatentPreview
from worker.engine.latents import cell_of, decode, encode, patch_of
from worker.engine.samplers import Tables
from worker.engine.step_loop import LOOKS, Loop, Step, Ticket, step_times
from worker.engine.upscaler import Upscaler, upscaler_of
from worker.stickers.sheet import shown_on

from .conditioning import Conditions, open_conditions
from .families import Guard, open_family
from .pipelines import open_pipeline
from .port import ANY, OnStep, Painter, PainterOptions, Progress, TooLarge, Turn

log = logging.getLogger(__name__)


class DiffusionPainter:
    """The networks of one model on one device, for as many recipes at once as threads ask for."""

    def __init__(
        self,
        denoiser: Denoiser,
        vae: Any,
        tables: Tables,
        conditions: Conditions,
        device: Device,
        means: PainterOptions,
    ) -> None:
        slots, watts = means.slots, means.watts
        self.denoiser, self.vae, self.tables, self.conditions = denoiser, vae, tables, conditions
        self.meter = open_meter(device.name, watts)
        self.metered = self.meter.measured
        self.on_device, self.at_once = device, slots
        unet = denoiser.unet.config
        self.shape = (unet.in_channels, unet.sample_size, unet.sample_size)
        self.loop = self.make_loop(BatchSizes({}, slots))
        self.upscaler: Upscaler | None = None
        self.guard: Guard | None = None
        self.patch = patch_of(unet.in_channels, vae)
        self.cell = cell_of(vae, self.patch)
        self.size_range: tuple[int, int, int] | None = None
        self.preset: dict[str, Any] = {}  # what most recipes of this model say
        self.preview, self.decoder = LatentPreview(vae, self.patch), Decoder(self.decode)

    @torch.inference_mode()
    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY
    ) -> Image.Image:
        """See Painter. What is not painted in the recipe's size is enlarged to it."""
        ticket = self.ticket(recipe)
        ticket.user, ticket.rank = turn.user, turn.rank
        sheets = ticket.conditioning.sheets
        base = torch.zeros(()) if sheets is None else shown_on(sheets[:1])
        if init_image is not None:
            ticket.picture = (self.encode(init_image, ticket.shape) - base)[0]
        skipped = recipe.steps - len(ticket.table)

        def tell(step: Step) -> None:
            preview = partial(self.look, base, step.clean)
            on_step(Progress(skipped + step.number, step.seconds_left, step.joules, preview))

        try:
            latents = base.to(self.on_device.name) + self.loop.paint(ticket, tell)[None]
            image = to_image(self.decoder(latents, alone=ticket.fixed))
        except torch.OutOfMemoryError as error:
            raise TooLarge(recipe, self.device, error) from error
        if self.guard is not None:
            self.guard(image, recipe)
        return enlarged(image, recipe, self.upscaler)

    @property
    def device(self) -> str:
        """See Painter; what decides about the bits of reproducible pictures is all in it."""
        together = f", {self.at_once} at once" if self.at_once > 1 else ""
        return f"{self.on_device}{together}{', compiled' if self.denoiser.compiled else ''}"

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, on the CPU in float32."""
        return decode(self.vae, latents.to(self.vae.dtype), self.patch).float().cpu()

    @torch.inference_mode()
    def encode(self, picture: Image.Image, shape: tuple[int, ...]) -> Tensor:
        """The latents (1, channels, h, w) of a picture, cut and scaled to what such latents show, on the CPU."""
        fitted = ImageOps.fit(picture, (shape[2] * self.cell, shape[1] * self.cell), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(fitted)).permute(2, 0, 1)[None] / 127.5 - 1
        latents: Tensor = encode(self.vae, pixels.to(self.vae.device, self.vae.dtype), self.patch)
        return latents.float().cpu()

    @torch.inference_mode()
    def look(self, base: Tensor, clean: Tensor) -> Image.Image:
        """What the latents will be, small."""
        return self.preview(base + clean.cpu()[None])

    def make_loop(self, widths: BatchSizes, exact_rows: int = 0) -> Loop:
        """A step loop of this network."""
        buckets = self.denoiser.compiled.rows if self.denoiser.compiled else ()
        loop = Loop(
            self.denoiser,
            widths,
            device=self.on_device.name,
            buckets=buckets,
            exact_rows=exact_rows,
            meter=self.meter,
        )
        loop.usual = self.shape
        return loop

    def ticket(self, recipe: Recipe) -> Ticket:
        """What the step loop must know of a recipe."""
        how = (recipe.sampler, recipe.schedule, recipe.steps)
        return Ticket(
            self.tables.late(*how, recipe.strength) if recipe.init_image else self.tables.of(*how),
            self.conditions(recipe),
            recipe.guidance_scale,
            torch.Generator("cpu").manual_seed(seed_of(recipe)),
            self.shape_of(recipe),
            fixed=recipe.mode == "reproducible",
            adapter=recipe.adapter,
        )

    def shape_of(self, recipe: Recipe) -> tuple[int, ...]:
        """Of its latents: channels, height, width."""
        channels, side, _ = self.shape
        height, width = painted_size(recipe, side * self.cell, self.size_range)
        return channels, height // self.cell, width // self.cell

    def state(self) -> dict[str, float]:
        """See Painter."""
        memory = torch.cuda.memory_reserved(self.on_device.name) / 1e6 if self.on_device.cuda else 0.0
        return {
            "batch_size": len(self.loop.active),
            "step_ms": round(1000 * self.loop.took, 2),
            "gpu_mb": round(memory),
        }

    def compile(self, mode: str) -> None:
        """Prepare a compiled network for the model's own size, at each width; raises BadSetup if it cannot be had."""
        self.denoiser.compiled = Compiled(self.denoiser.unet, mode)
        try:
            with self.denoiser.compiled.learning():
                self.measure()
        except RuntimeError as error:
            raise BadSetup(f"WORKER_COMPILE={mode}: {error}; `memoaized doctor` tells what is missing") from error

    def measure(self) -> None:
        """Learn what steps of each width take; raises BadSetup if not even one painting fits into the memory.

        Fixed paintings are calculated at as many rows as the widest that fits has, which is known to fit, too.
        """
        widths = measured(self.step_times, self.loop.widths.most)
        if not widths.seconds:
            height, width = (side * self.cell for side in self.shape[1:])
            raise BadSetup(f"a painting of {width} × {height} does not fit into the memory of {self.device}")
        self.at_once = widths.limited
        self.loop = self.make_loop(widths, max(2, widths.limited * len(self.probe().conditioning)))

    def probe(self) -> Ticket:
        """A painting that says nothing, as guided as most of this model are."""
        wanted = {"prompt": "a", "model": "any", "revision": "any", "steps": 1 + LOOKS, "seed": 0, **self.preset}
        return self.ticket(from_mapping(wanted))

    def step_times(self, width: int) -> list[float]:
        """Of some steps of so many paintings that say nothing; none if memory is too small."""
        loop, begun = self.make_loop(BatchSizes({}, width)), time.monotonic()
        times = step_times(loop, [self.probe() for _ in range(width)])
        if self.denoiser.compiled:
            log.info("steps of %d at once are compiled, after %.0f s", width, time.monotonic() - begun)
        return times


def enlarged(image: Image.Image, recipe: Recipe, upscaler: Upscaler | None) -> Image.Image:
    """The image in the recipe's size: once by the upscaler if it is too small, the rest by a filter."""
    if upscaler is not None and image.width < recipe.width:
        image = upscaler(image, prompt=recipe.prompt, seed=seed_of(recipe))
    size = (recipe.width, recipe.height)
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


def open_diffusion(model: Model, means: PainterOptions) -> Painter:
    """Load a model's networks, scheduler settings and drawings; raises BadSetup naming what cannot be read."""
    torch.set_num_threads(means.threads)
    device = open_device(means.device, means.dtype)
    for library in (diffusers.logging, transformers.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        about = json.loads((model.folder / "model.json").read_text())
        check_memory(model.name, weights_in(model.folder), device)
        if about.get("family") == PIPELINE:
            return open_pipeline(about, model.folder, device, means)
        painter = (open_of_family if "family" in about else open_own)(about, model.folder, device, means)
    except (OSError, ValueError, KeyError, SafetensorError, torch.OutOfMemoryError) as error:
        raise BadSetup(f"the model {model.name} in {model.folder} cannot be loaded: {error}") from error
    painter.preset = {name: value for name, value in model.defaults.items() if name == "guidance_scale"}
    if means.compile != "0":
        painter.compile(means.compile)
    elif means.slots > 1:
        painter.measure()
    return painter


def open_of_family(about: dict[str, Any], folder: Path, device: Device, means: PainterOptions) -> DiffusionPainter:
    """A model of a family that diffusers has a pipeline for."""
    family = open_family(about, folder, device)
    tables, denoiser = Tables(family.schedule), Denoiser(family.unet, lora=family.adapters.on_network).eval()
    painter = DiffusionPainter(denoiser, family.vae, tables, family.conditions, device, means)
    painter.guard, painter.size_range = family.guard, as_size_range(about.get("size_range"))
    painter.upscaler = upscaler_of(about, folder, device)
    return painter


def open_own(about: dict[str, Any], folder: Path, device: Device, means: PainterOptions) -> DiffusionPainter:
    """A model that `memoaized train` made, or the shipped one."""
    kind = UNet2DModel if about.get("labels") else UNet2DConditionModel
    unet = kind.from_pretrained(folder / "unet", **quiet("unet", folder))
    vae = AutoencoderTiny.from_pretrained(folder / "vae", **quiet("vae", folder)).eval()
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    adapter = None
    if (folder / "adapter").is_dir():
        adapter = T2IAdapter.from_pretrained(folder / "adapter", **quiet("adapter", folder))
    patch = patch_of(unet.config.in_channels, vae)
    drawn_by = adapter and deepcopy(vae)  # sheets are laid on the CPU, in float32
    denoiser = Denoiser(device.take(unet), adapter and device.take(adapter)).eval()
    conditions = open_conditions(about, folder, drawn_by, patch)
    painter = DiffusionPainter(denoiser, device.take(vae), Tables(schedule), conditions, device, means)
    painter.upscaler = upscaler_of(about, folder, device)
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
