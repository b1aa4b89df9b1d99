"""The painter of latent diffusion models in diffusers' folder layout; paints several recipes in one step loop.

Knows no queue and no memory. Classifier-free guidance: https://arxiv.org/abs/2207.12598.
"""

import json
import logging
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
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

from jobs.models import PIPELINE, Model, painted_size, read_size_range
from memo import BadSetup, Recipe, from_mapping
from worker.engine.batch_size import BatchSizes, measure_batch_sizes
from worker.engine.compiled import CompiledNetwork
from worker.engine.decoder import Decoder
from worker.engine.denoiser import Denoiser
from worker.engine.device import Device, check_memory, count_weights, open_device
from worker.engine.energy import open_meter
from worker.engine.latent_preview import LatentPreview
from worker.engine.latents import decode, encode, patch_size, pixels_per_position
from worker.engine.overflow import Overflow, all_finite, repeat_in_float32
from worker.engine.samplers import StepTables
from worker.engine.step_loop import TIMED_STEPS, Painting, Step, StepLoop, time_steps
from worker.engine.upscaler import Upscaler, open_model_upscaler
from worker.stickers.sheet import sheet_latents

from .conditioning import Conditioner, open_conditioner
from .families import SafetyChecker, open_family
from .pipelines import open_pipeline
from .port import ANY_TURN, OnStep, Painter, PainterOptions, Progress, TooLarge, Turn, remedy_for_overflow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The networks of one model on their device, and everything else that its painter needs."""

    denoiser: Denoiser
    vae: Any
    tables: StepTables
    conditioner: Conditioner
    upscaler: Upscaler | None
    safety_checker: SafetyChecker | None = None
    size_range: tuple[int, int, int] | None = None


class DiffusionPainter:
    """Paints with one model on one device, for several threads at once."""

    def __init__(
        self,
        model: LoadedModel,
        device: Device,
        options: PainterOptions,
        defaults: Mapping[str, Any],
    ) -> None:
        self.denoiser, self.vae, self.tables = model.denoiser, model.vae, model.tables
        self.conditioner, self.upscaler = model.conditioner, model.upscaler
        self.safety_checker, self.size_range = model.safety_checker, model.size_range
        self.defaults = defaults  # of the model's recipes
        self.meter = open_meter(device.name, options.watts)
        self.metered = self.meter.measured
        self.torch_device, self.max_batch_size = device, options.slots
        unet = model.denoiser.unet.config
        self.shape = (unet.in_channels, unet.sample_size, unet.sample_size)
        self.loop = self.make_loop(BatchSizes({}, options.slots))
        self.patch = patch_size(unet.in_channels, model.vae)
        self.pixels_per_position = pixels_per_position(model.vae, self.patch)
        repeat_in_float32(model.vae)
        self.preview, self.decoder = LatentPreview(model.vae, self.patch), Decoder(self.decode)

    @torch.inference_mode()
    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY_TURN
    ) -> Image.Image:
        """See Painter. If the model paints another size, the picture is scaled to the recipe's. Raises Overflow."""
        painting = self.make_painting(recipe)
        if not all(map(all_finite, painting.conditioning.tensors())):
            raise Overflow("while the prompt was read", remedy_for_overflow(recipe, self.torch_device))
        painting.user, painting.rank = turn.user, turn.rank
        sheets, notes = painting.conditioning.sheets, painting.conditioning.notes
        base = torch.zeros(()) if sheets is None else sheet_latents(sheets[:1])
        if init_image is not None:
            painting.init_latents = (self.encode(init_image, painting.shape) - base)[0]
        skipped = recipe.steps - len(painting.table)

        def report(step: Step) -> None:
            preview = partial(self.preview_image, base, step.denoised)
            on_step(Progress(skipped + step.number, step.seconds_left, step.joules, preview, notes))

        try:
            latents = base.to(self.torch_device.name) + self.loop.paint(painting, report)[None]
            decoded = self.decoder(latents, reproducible=painting.reproducible)
        except torch.OutOfMemoryError as error:
            raise TooLarge(recipe, self.device, error) from error
        except Overflow as error:
            raise Overflow(error.when, remedy_for_overflow(recipe, self.torch_device)) from error
        if not all_finite(decoded):
            raise Overflow("while the picture was decoded", remedy_for_overflow(recipe, self.torch_device))
        image = to_image(decoded)
        if self.safety_checker is not None:
            self.safety_checker(image, recipe)
        return scale_to_recipe(image, recipe, self.upscaler)

    @property
    def device(self) -> str:
        """See Painter; names everything that determines the bits of reproducible pictures."""
        batch = f", {self.max_batch_size} at once" if self.max_batch_size > 1 else ""
        return f"{self.torch_device}{batch}{', compiled' if self.denoiser.compiled else ''}"

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """The pictures of latents, on the CPU in float32."""
        return decode(self.vae, latents.to(self.vae.dtype), self.patch).float().cpu()

    @torch.inference_mode()
    def encode(self, picture: Image.Image, shape: tuple[int, ...]) -> Tensor:
        """The latents (1, channels, h, w) of a picture, cropped and scaled to latents of `shape`, on the CPU."""
        size = (shape[2] * self.pixels_per_position, shape[1] * self.pixels_per_position)
        fitted = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(fitted)).permute(2, 0, 1)[None] / 127.5 - 1
        latents: Tensor = encode(self.vae, pixels.to(self.vae.device, self.vae.dtype), self.patch)
        return latents.float().cpu()

    @torch.inference_mode()
    def preview_image(self, base: Tensor, denoised: Tensor) -> Image.Image:
        """A small preview of the estimated latents."""
        return self.preview(base + denoised.cpu()[None])

    def make_loop(self, batch_sizes: BatchSizes, reproducible_rows: int = 0) -> StepLoop:
        """A step loop over this network."""
        loop = StepLoop(
            self.denoiser,
            batch_sizes,
            device=self.torch_device.name,
            buckets=self.denoiser.compiled.row_counts if self.denoiser.compiled else (),
            reproducible_rows=reproducible_rows,
            meter=self.meter,
        )
        loop.usual_shape = self.shape
        return loop

    def make_painting(self, recipe: Recipe) -> Painting:
        """A recipe as a painting for the step loop."""
        steps = (recipe.sampler, recipe.schedule, recipe.steps)
        return Painting(
            self.tables.image_to_image(*steps, recipe.strength)
            if recipe.init_image
            else self.tables.text_to_image(*steps),
            self.conditioner(recipe),
            recipe.guidance_scale,
            torch.Generator("cpu").manual_seed(seed_of(recipe)),
            self.latent_shape(recipe),
            reproducible=recipe.mode == "reproducible",
            adapter=recipe.adapter,
        )

    def latent_shape(self, recipe: Recipe) -> tuple[int, ...]:
        """The shape of a recipe's latents: channels, height, width."""
        channels, side, _ = self.shape
        height, width = painted_size(recipe, side * self.pixels_per_position, self.size_range)
        return channels, height // self.pixels_per_position, width // self.pixels_per_position

    def state(self) -> dict[str, float]:
        """See Painter."""
        memory = torch.cuda.memory_reserved(self.torch_device.name) / 1e6 if self.torch_device.cuda else 0.0
        return {
            "batch_size": len(self.loop.active),
            "step_ms": round(1000 * self.loop.tick_seconds, 2),
            "gpu_mb": round(memory),
        }

    def compile(self, mode: str) -> None:
        """Compile the network for the model's own size at each batch size; raises BadSetup if that fails."""
        self.denoiser.compiled = CompiledNetwork(self.denoiser.unet, mode)
        try:
            with self.denoiser.compiled.compiling():
                self.measure()
        except RuntimeError as error:
            raise BadSetup(f"WORKER_COMPILE={mode}: {error}; `memoaized doctor` says what is missing") from error

    def measure(self) -> None:
        """Time the steps of each batch size; raises BadSetup if not even one painting fits into the memory.

        Reproducible paintings are then computed with the rows of the largest batch that fits, so they fit too.
        """
        batch_sizes = measure_batch_sizes(self.time_steps, self.loop.batch_sizes.max_size)
        if not batch_sizes.seconds:
            height, width = (side * self.pixels_per_position for side in self.shape[1:])
            raise BadSetup(
                f"a painting of {width} × {height} does not fit into the memory of {self.device}:"
                " stop other programs that use the device, or choose a smaller model or a larger device"
            )
        self.max_batch_size = batch_sizes.limit
        self.loop = self.make_loop(batch_sizes, max(2, batch_sizes.limit * len(self.make_probe().conditioning)))

    def make_probe(self) -> Painting:
        """A painting for timing, with guidance if the model's recipes have it by default."""
        fields = {"prompt": "a", "model": "any", "revision": "any", "steps": 1 + TIMED_STEPS, "seed": 0}
        guidance = {name: value for name, value in self.defaults.items() if name == "guidance_scale"}
        return self.make_painting(from_mapping(fields | guidance))

    def time_steps(self, batch_size: int) -> list[float]:
        """Seconds of steps at this batch size; empty if the memory is too small."""
        loop, started_at = self.make_loop(BatchSizes({}, batch_size)), time.monotonic()
        times = time_steps(loop, [self.make_probe() for _ in range(batch_size)])
        if self.denoiser.compiled:
            log.info("compiled steps of %d paintings in %.0f s", batch_size, time.monotonic() - started_at)
        return times


def scale_to_recipe(image: Image.Image, recipe: Recipe, upscaler: Upscaler | None) -> Image.Image:
    """The image in the recipe's size: upscaled once if it is too small, then resampled if it does not fit."""
    if upscaler is not None and image.width < recipe.width:
        image = upscaler(image, prompt=recipe.prompt, seed=seed_of(recipe))
    size = (recipe.width, recipe.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def seed_of(recipe: Recipe) -> int:
    """The recipe's seed; raises BadSetup for a wish, which has none."""
    if recipe.seed is None:
        raise BadSetup("a wish cannot be painted: choose a seed first")
    return recipe.seed


def to_image(decoded: torch.Tensor) -> Image.Image:
    """A decoded picture (1, 3, height, width) in -1…1 as an RGB image."""
    pixels = ((decoded[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def open_diffusion(model: Model, options: PainterOptions) -> Painter:
    """Load a model's networks, scheduler settings and drawings; raises BadSetup naming what cannot be read."""
    torch.set_num_threads(options.threads)
    device = open_device(options.device, options.dtype)
    for library in (diffusers.logging, transformers.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        description = json.loads((model.folder / "model.json").read_text())
        check_memory(model.name, count_weights(model.folder), device)
        if description.get("family") == PIPELINE:
            return open_pipeline(description, model.folder, device, options)
        load = load_family_model if "family" in description else load_own_model
        painter = DiffusionPainter(load(description, model.folder, device), device, options, model.defaults)
    except (OSError, ValueError, KeyError, SafetensorError, torch.OutOfMemoryError) as error:
        raise BadSetup(f"the model {model.name} in {model.folder} cannot be loaded: {error}") from error
    if options.compile != "0":
        painter.compile(options.compile)
    elif options.slots > 1:
        painter.measure()
    return painter


def load_family_model(description: dict[str, Any], folder: Path, device: Device) -> LoadedModel:
    """A model of a family that diffusers has a pipeline for."""
    family = open_family(description, folder, device)
    return LoadedModel(
        Denoiser(family.unet, set_lora=family.adapters.set_network).eval(),
        family.vae,
        StepTables(family.schedule),
        family.conditioner,
        open_model_upscaler(description, folder, device),
        safety_checker=family.safety_checker,
        size_range=read_size_range(description.get("size_range")),
    )


def load_own_model(description: dict[str, Any], folder: Path, device: Device) -> LoadedModel:
    """A model that `memoaized train` made, or the shipped one."""
    kind = UNet2DModel if description.get("labels") else UNet2DConditionModel
    unet = kind.from_pretrained(folder / "unet", **weight_options("unet", folder))
    vae = AutoencoderTiny.from_pretrained(folder / "vae", **weight_options("vae", folder)).eval()
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    adapter = None
    if (folder / "adapter").is_dir():
        adapter = T2IAdapter.from_pretrained(folder / "adapter", **weight_options("adapter", folder))
    sheet_vae = adapter and deepcopy(vae)  # sheets are encoded on the CPU in float32
    denoiser = Denoiser(device.move(unet), adapter and device.move(adapter)).eval()
    conditioner = open_conditioner(description, folder, sheet_vae, patch_size(unet.config.in_channels, vae))
    upscaler = open_model_upscaler(description, folder, device)
    return LoadedModel(denoiser, device.move(vae), StepTables(schedule), conditioner, upscaler)


def weight_options(part: str, folder: Path) -> dict[str, Any]:
    """Options of `from_pretrained`: local safetensors only, in float32; the fp16 variant if that is what is there."""
    options: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "torch_dtype": torch.float32,
    }
    if any((folder / part).glob("*.fp16.safetensors")):
        options["variant"] = "fp16"
    return options
