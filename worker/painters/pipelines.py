"""Models that the step loop cannot step, through diffusers' own pipelines: SD 3.5, FLUX, DDPM and others.

Recipes of equal settings that wait are painted in one call. Knows tensors and pipelines; no queues.
"""

import inspect
import logging
import math
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageOps

from jobs.models import REDRAWN
from memo import BadRecipe, BadSetup, Recipe
from worker.engine.adapters import PipelineAdapters, pipeline_adapters
from worker.engine.device import Device
from worker.engine.energy import Meter, open_meter
from worker.engine.on_demand_thread import OnDemandThread
from worker.engine.samplers import make_scheduler

from .port import ANY, OnStep, PainterOptions, Progress, TooLarge, Turn

log = logging.getLogger(__name__)

LENGTH = "max_sequence_length"  # of a prompt in tokens, as FLUX and SD 3.5 take it
SETTINGS = ("steps", "guidance_scale", "width", "height", "sampler", "schedule", "adapter", "mode")


@dataclass(eq=False)
class PipelineRequest:
    """One recipe that waits or is painted."""

    recipe: Recipe
    init_image: Image.Image | None = None
    turn: Turn = ANY
    gone: bool = False  # nobody waits for it any more
    news: "queue.SimpleQueue[Progress | Image.Image | Exception]" = field(default_factory=queue.SimpleQueue)

    @property
    def settings(self) -> tuple[object, ...]:
        """What all that are painted together must share."""
        begun = self.init_image and self.recipe.strength
        return *(getattr(self.recipe, name) for name in SETTINGS), bool(self.recipe.negative_prompt), begun


class Dropped(Exception):
    """Nobody waits for any of them."""


class StockPainter:
    """One pipeline in one thread; see Painter."""

    def __init__(self, pipe: Any, device: Device, most: int, meter: Meter) -> None:
        self.pipe, self.device, self.most, self.meter = pipe, str(device), most, meter
        self.metered = meter.measured
        self.adapters: PipelineAdapters | None = None
        self.more: Mapping[str, object] = {}  # what every call says besides the recipe
        self.takes = inspect.signature(pipe.__call__).parameters
        self.flow = isinstance(pipe.scheduler, FlowMatchEulerDiscreteScheduler)
        self.cell = cell_of(pipe) if "height" in self.takes else 1
        self.redrawing = redrawing(pipe)  # over the same parts
        self.waiting: list[PipelineRequest] = []
        self.batch_size = 0
        self.thread = OnDemandThread("stock pipeline", lambda: self.waiting, self.paint_first)

    def state(self) -> Mapping[str, float]:
        """See Painter."""
        return {"batch_size": self.batch_size}

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY
    ) -> Image.Image:
        """See Painter; raises BadRecipe for what the pipeline cannot follow or would leave out without a word."""
        self.check(recipe)
        fitted = init_image and ImageOps.fit(init_image, (recipe.width, recipe.height), Image.Resampling.LANCZOS)
        request = PipelineRequest(recipe, fitted, turn)
        with self.thread.changed:
            self.waiting.append(request)
            self.thread.wake()
        try:
            while not isinstance(news := request.news.get(), Image.Image):
                if isinstance(news, Exception):
                    raise news
                on_step(news)
        finally:
            request.gone = True
        size = (recipe.width, recipe.height)
        return news if news.size == size else news.resize(size, Image.Resampling.LANCZOS)

    def check(self, recipe: Recipe) -> None:
        """Raise BadRecipe; guidance may count for nothing, for every recipe has some and nobody need have asked."""
        self.check_sampler(recipe)
        self.check_negative(recipe)
        for name in ("width", "height"):
            if (side := getattr(recipe, name)) % self.cell:
                raise BadRecipe(name, side, f"{recipe.model} paints multiples of {self.cell}")
        if recipe.init_image:
            self.check_start(recipe)
        if recipe.adapter and self.adapters is None:
            raise BadRecipe("adapter", recipe.adapter, f"{recipe.model} can wear none: leave it out")

    def check_start(self, recipe: Recipe) -> None:
        """Some pipelines only paint anew, and the others want a step at least."""
        if self.redrawing is None:
            raise BadRecipe(
                "init_image", recipe.init_image, f"{recipe.model} cannot start from a picture: leave it out"
            )
        if recipe.steps * recipe.strength < 1:
            least = math.ceil(100 / recipe.steps) / 100
            raise BadRecipe(
                "strength", recipe.strength, f"of {recipe.steps} steps nothing is left: at least {least:g}"
            )

    def check_sampler(self, recipe: Recipe) -> None:
        """Flow models go by Euler's method only, at steps of their own, and unconditional ones by DDIM."""
        only = "euler" if self.flow else "ddim" if "prompt" not in self.takes else recipe.sampler
        if recipe.sampler != only:
            raise BadRecipe("sampler", recipe.sampler, f"{recipe.model} can be painted with {only} only")
        if self.flow and recipe.schedule != "native":
            raise BadRecipe("schedule", recipe.schedule, f"{recipe.model} can be painted with native only")

    def check_negative(self, recipe: Recipe) -> None:
        """Not all know negative prompts."""
        true = self.takes.get("true_cfg_scale")  # what FLUX and others guide by in earnest; off unless above 1
        known = "negative_prompt" in self.takes and (true is None or true.default > 1)
        if recipe.negative_prompt and not known:
            raise BadRecipe("negative_prompt", recipe.negative_prompt, f"{recipe.model} knows none: leave it out")

    def paint_first(self) -> None:
        """Who waits first and those like it."""
        with self.thread.changed:
            in_turn = sorted(self.waiting, key=lambda request: request.turn.rank)
            first = in_turn[0]
            most = 1 if first.recipe.mode == "reproducible" else self.most  # company changes bits
            requests = [request for request in in_turn if request.settings == first.settings][:most]
            self.waiting = [request for request in self.waiting if request not in requests]
        self.paint([request for request in requests if not request.gone])

    def paint(self, requests: list[PipelineRequest]) -> None:
        """In one call; if memory is full in halves, if anything else is wrong each alone, so that only that fails."""
        if not requests:
            return
        self.batch_size = len(requests)
        try:
            images = self.painted(requests)
        except Dropped:
            return
        except torch.OutOfMemoryError as error:
            self.make_room(requests, error)
            return
        except Exception as error:
            log.exception("a pipeline failed with %d paintings", len(requests))
            if len(requests) == 1:
                requests[0].news.put(error)
                return
            for request in requests:
                self.paint([request])
            return
        finally:
            self.batch_size = 0
        for request, image in zip(requests, images, strict=True):
            request.news.put(image)

    def make_room(self, requests: list[PipelineRequest], error: Exception) -> None:
        """Fewer from now on; alone, it is too large for now."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(requests) == 1:
            requests[0].news.put(TooLarge(requests[0].recipe, self.device, error))
            return
        self.most = len(requests) // 2
        log.warning("memory is full with %d paintings at once: %d from now on", len(requests), self.most)
        for start in range(0, len(requests), self.most):
            self.paint(requests[start : start + self.most])

    @torch.inference_mode()
    def painted(self, requests: list[PipelineRequest]) -> list[Image.Image]:
        """RGB images."""
        recipe = requests[0].recipe
        if self.adapters is not None:
            self.adapters.put_on(recipe.adapter)
        if not self.flow:
            self.pipe.scheduler = make_scheduler(self.pipe.scheduler.config, recipe.sampler, recipe.schedule)
        asked: dict[str, Any] = {
            "prompt": [request.recipe.prompt for request in requests],
            "negative_prompt": [request.recipe.negative_prompt for request in requests]
            if recipe.negative_prompt
            else None,
            "width": recipe.width,
            "height": recipe.height,
            "guidance_scale": recipe.guidance_scale,
            "num_inference_steps": recipe.steps,
            "generator": [torch.Generator("cpu").manual_seed(request.recipe.seed or 0) for request in requests],
        }
        asked = {name: value for name, value in asked.items() if name in self.takes}
        if "prompt" not in self.takes:
            asked["batch_size"] = len(requests)
        pipe = self.pipe
        if requests[0].init_image is not None:
            pipe, asked["image"], asked["strength"] = (
                self.redrawing,
                [one.init_image for one in requests],
                recipe.strength,
            )
        with self.meter.used() as spent:
            pipe.progress_bar = lambda iterable=None, total=None: Bar(requests, iterable, total, spent)
            images: list[Image.Image] = pipe(**asked, **self.more, output_type="pil").images
        return [image.convert("RGB") for image in images]


class Bar:
    """In place of a pipeline's progress bar, however it uses it: tells each step, and ends what nobody waits for."""

    def __init__(
        self,
        requests: list[PipelineRequest],
        iterable: Iterable[Any] | None,
        total: int | None,
        spent: Callable[[], float],
    ) -> None:
        self.requests, self.iterable, self.spent = requests, iterable, spent
        self.step = 0 if total is None else max(0, requests[0].recipe.steps - total)  # some are left out with a start

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for one in () if self.iterable is None else self.iterable:
            yield one
            self.update()

    def update(self, steps: int = 1) -> None:
        """So many steps are done; raises Dropped."""
        self.step += steps
        joules = self.spent() / len(self.requests)
        for request in self.requests:
            request.news.put(Progress(self.step, joules=joules))
        if all(request.gone for request in self.requests):
            raise Dropped


def open_pipeline(about: Mapping[str, Any], folder: Path, device: Device, means: PainterOptions) -> StockPainter:
    """Whatever pipeline lies there or on the hub; raises BadSetup, OSError or ValueError."""
    source: str = about.get("source", str(folder))
    options: dict[str, Any] = {"local_files_only": True}
    if "source" in about:
        options = {"revision": about["hub_revision"]}
    options["variant"] = about.get("variant")  # of the files, "fp16" say
    options |= dict.fromkeys(about.get("without", ()))  # parts that are left out, a large text encoder say
    try:
        pipe = DiffusionPipeline.from_pretrained(source, dtype=device.kind, use_safetensors=True, **options)
    except AttributeError as error:
        raise BadSetup(f"{folder}: diffusers knows no such pipeline: {error}") from error
    painter = StockPainter(pipe.to(device.name), device, means.slots, open_meter(device.name, means.watts))
    painter.more, painter.adapters = more_for(pipe, about, folder), pipeline_adapters(pipe, folder)
    return painter


def redrawing(pipe: Any) -> Any:
    """The pipeline that starts from a picture, over the same parts; None where diffusers has none that we know."""
    kind = type(pipe).__name__
    if kind not in REDRAWN:
        return None
    redraws = getattr(diffusers, kind.replace("Pipeline", "Img2ImgPipeline"))
    wanted = inspect.signature(redraws).parameters
    return redraws(**{name: part for name, part in pipe.components.items() if name in wanted})


def more_for(pipe: Any, about: Mapping[str, Any], folder: Path) -> dict[str, object]:
    """What every call says besides the recipe; raises BadSetup for a length of prompts where none can be said."""
    if "tokens" not in about:
        return {}
    if LENGTH not in inspect.signature(pipe.__call__).parameters:
        raise BadSetup(f"{folder}: tokens is {about['tokens']!r}, but {type(pipe).__name__} takes none: leave it out")
    return {LENGTH: about["tokens"]}


def cell_of(pipe: Any) -> int:
    """Of how many pixels the sides of its pictures must be multiples."""
    cell: int = getattr(pipe, "vae_scale_factor", 1) * getattr(pipe, "patch_size", 1)
    processor = getattr(pipe, "image_processor", None)  # FLUX's knows that latents are packed two by two
    return max(cell, processor.config.vae_scale_factor) if isinstance(processor, VaeImageProcessor) else cell
