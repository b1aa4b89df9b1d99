"""Paints with diffusers' own pipelines: SD 3.5, FLUX, DDPM and other models that the step loop cannot run.

Waiting recipes with equal settings are painted in one call. Knows tensors and pipelines; no queues.
"""

import inspect
import logging
import math
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image, ImageOps

from jobs.models import IMAGE_TO_IMAGE_PIPELINES
from memo import BadRecipe, BadSetup, Recipe
from worker.engine.adapters import PipelineAdapters, pipeline_adapters
from worker.engine.device import Device
from worker.engine.energy import open_meter
from worker.engine.on_demand_thread import OnDemandThread
from worker.engine.overflow import Overflow, OverflowWatch, repeat_in_float32
from worker.engine.samplers import make_scheduler
from worker.engine.text_encoder import explain_unread, find_unread

from .port import ANY_TURN, OnStep, PainterOptions, Progress, TooLarge, Turn, remedy_for_overflow

log = logging.getLogger(__name__)

PROMPT_LENGTH = "max_sequence_length"  # the argument of FLUX and SD 3.5, in tokens
SETTINGS = ("steps", "guidance_scale", "width", "height", "sampler", "schedule", "adapter", "mode")


@dataclass(eq=False)
class PipelineRequest:
    """One recipe that waits to be painted or is being painted."""

    recipe: Recipe
    init_image: Image.Image | None = None
    turn: Turn = ANY_TURN
    cancelled: bool = False
    notes: tuple[str, ...] = ()  # what the picture leaves out of the prompt, in words
    messages: "queue.SimpleQueue[Progress | Image.Image | Exception]" = field(default_factory=queue.SimpleQueue)

    def fail(self, error: Exception) -> None:
        """Cancel the request and raise the error in its caller's thread."""
        self.cancelled = True
        self.messages.put(error)

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Equal for requests that can be painted in one call."""
        strength = self.init_image and self.recipe.strength
        return *(getattr(self.recipe, name) for name in SETTINGS), bool(self.recipe.negative_prompt), strength


class AllCancelled(Exception):
    """Every request of a running call was cancelled."""


class PipelinePainter:
    """Paints with one pipeline in one thread; see Painter."""

    def __init__(
        self,
        pipe: Any,
        device: Device,
        options: PainterOptions,
        *,
        adapters: PipelineAdapters | None = None,
        extra_arguments: Mapping[str, object] | None = None,
    ) -> None:
        self.pipe, self.device, self.max_batch_size = pipe, str(device), options.slots
        self.meter = open_meter(device.name, options.watts)
        self.metered = self.meter.measured
        self.adapters, self.extra_arguments = adapters, extra_arguments or {}
        self.parameters = inspect.signature(pipe.__call__).parameters
        self.is_flow = isinstance(pipe.scheduler, FlowMatchEulerDiscreteScheduler)
        self.size_multiple = size_multiple(pipe) if "height" in self.parameters else 1
        self.image_to_image = image_to_image_pipeline(pipe)
        self.watch = OverflowWatch(getattr(pipe, "transformer", None) or getattr(pipe, "unet", None))
        if getattr(pipe, "vae", None) is not None:
            repeat_in_float32(pipe.vae)
        self.waiting: list[PipelineRequest] = []
        self.batch_size = 0
        self.thread = OnDemandThread("pipeline", lambda: self.waiting, self.paint_next)

    def state(self) -> Mapping[str, float]:
        """See Painter."""
        return {"batch_size": self.batch_size}

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY_TURN
    ) -> Image.Image:
        """See Painter; raises BadRecipe for settings that the pipeline cannot follow or would silently ignore."""
        self.check(recipe)
        fitted = init_image and ImageOps.fit(init_image, (recipe.width, recipe.height), Image.Resampling.LANCZOS)
        request = PipelineRequest(recipe, fitted, turn)
        with self.thread.changed:
            self.waiting.append(request)
            self.thread.wake()
        try:
            while not isinstance(message := request.messages.get(), Image.Image):
                if isinstance(message, Exception):
                    raise message
                on_step(message)
        finally:
            request.cancelled = True
        size = (recipe.width, recipe.height)
        return message if message.size == size else message.resize(size, Image.Resampling.LANCZOS)

    def check(self, recipe: Recipe) -> None:
        """Raise BadRecipe for settings that the pipeline cannot follow.

        A guidance scale that has no effect is accepted: every recipe has one, even if the user did not set it.
        """
        self.check_sampler(recipe)
        self.check_negative_prompt(recipe)
        for name in ("width", "height"):
            if (side := getattr(recipe, name)) % self.size_multiple:
                raise BadRecipe(name, side, f"{recipe.model} paints multiples of {self.size_multiple}")
        if recipe.init_image:
            self.check_init_image(recipe)
        if recipe.adapter and self.adapters is None:
            raise BadRecipe("adapter", recipe.adapter, f"{recipe.model} cannot use adapters: leave it out")

    def check_init_image(self, recipe: Recipe) -> None:
        """Raise BadRecipe if there is no image-to-image pipeline, or if the strength leaves no step."""
        if self.image_to_image is None:
            raise BadRecipe(
                "init_image", recipe.init_image, f"{recipe.model} cannot start from a picture: leave it out"
            )
        if recipe.steps * recipe.strength < 1:
            least = math.ceil(100 / recipe.steps) / 100
            problem = f"it leaves none of the {recipe.steps} steps: use at least {least:g}"
            raise BadRecipe("strength", recipe.strength, problem)

    def check_sampler(self, recipe: Recipe) -> None:
        """Raise BadRecipe for a sampler or schedule that the model cannot use.

        Flow models allow only Euler's method with its native schedule, unconditional models only DDIM.
        """
        allowed = "euler" if self.is_flow else "ddim" if "prompt" not in self.parameters else recipe.sampler
        if recipe.sampler != allowed:
            raise BadRecipe("sampler", recipe.sampler, f"{recipe.model} can be painted with {allowed} only")
        if self.is_flow and recipe.schedule != "native":
            raise BadRecipe("schedule", recipe.schedule, f"{recipe.model} can be painted with native only")

    def check_negative_prompt(self, recipe: Recipe) -> None:
        """Raise BadRecipe if the pipeline would ignore the negative prompt."""
        # FLUX and others use negative prompts only if `true_cfg_scale` is above 1
        true_cfg_scale = self.parameters.get("true_cfg_scale")
        used = "negative_prompt" in self.parameters and (true_cfg_scale is None or true_cfg_scale.default > 1)
        if recipe.negative_prompt and not used:
            raise BadRecipe(
                "negative_prompt", recipe.negative_prompt, f"{recipe.model} ignores negative prompts: leave it out"
            )

    def paint_next(self) -> None:
        """Paint the next request together with waiting requests of equal settings."""
        with self.thread.changed:
            in_order = sorted(self.waiting, key=lambda request: request.turn.rank)
            first = in_order[0]
            limit = 1 if first.recipe.mode == "reproducible" else self.max_batch_size  # a batch changes bits
            requests = [request for request in in_order if request.batch_key == first.batch_key][:limit]
            self.waiting = [request for request in self.waiting if request not in requests]
        self.paint([request for request in requests if not request.cancelled])

    def paint(self, requests: list[PipelineRequest]) -> None:
        """Paint requests in one call; if memory is full, in halves; on any other error, each alone."""
        if not requests:
            return
        self.batch_size = len(requests)
        try:
            images = self.run_pipeline(requests)
        except AllCancelled:
            return
        except torch.OutOfMemoryError as error:
            self.halve_batch(requests, error)
            return
        except Exception as error:
            log.exception("a pipeline failed with %d paintings", len(requests))
            if len(requests) == 1:
                requests[0].messages.put(error)
                return
            for request in requests:
                self.paint([request])
            return
        finally:
            self.batch_size = 0
        for request, image in zip(requests, images, strict=True):
            request.messages.put(image)

    def halve_batch(self, requests: list[PipelineRequest], error: Exception) -> None:
        """Lower the batch size to half and paint again; a lone request fails with TooLarge."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(requests) == 1:
            requests[0].messages.put(TooLarge(requests[0].recipe, self.device, error))
            return
        half = len(requests) // 2
        log.warning("memory is full with %d paintings at once; the limit is %d from now on", len(requests), half)
        self.max_batch_size = half  # painting the first part may lower it again, so the parts are cut by `half`
        for start in range(0, len(requests), half):
            self.paint(requests[start : start + half])

    @torch.inference_mode()
    def run_pipeline(self, requests: list[PipelineRequest]) -> list[Image.Image | Overflow]:
        """The RGB image or the error of each request, all of equal settings, in one call; raises AllCancelled."""
        recipe = requests[0].recipe
        if self.adapters is not None:
            self.adapters.set_adapter(recipe.adapter)
        if not self.is_flow:
            self.pipe.scheduler = make_scheduler(self.pipe.scheduler.config, recipe.sampler, recipe.schedule)
        arguments = self.call_arguments(requests)
        for request in requests:
            request.notes = self.explain_unread(request.recipe.prompt)
        pipe = self.pipe
        if requests[0].init_image is not None:
            pipe = self.image_to_image
            arguments |= {"image": [request.init_image for request in requests], "strength": recipe.strength}
        with self.meter.measure() as joules_used:
            pipe.progress_bar = partial(ProgressBar, requests, joules_used, self.fail_overflowed)
            images = pipe(**arguments, **self.extra_arguments, output_type="np").images
        return [self.to_image(request, image) for request, image in zip(requests, images, strict=True)]

    def fail_overflowed(self, requests: list[PipelineRequest], step: int) -> None:
        """Fail the requests whose numbers overflowed at this step."""
        for number in self.watch.take(len(requests)):
            if not requests[number].cancelled:
                requests[number].fail(self.overflow(requests[number], f"at step {step}"))

    def overflow(self, request: PipelineRequest, when: str) -> Overflow:
        """The error of a request whose numbers overflowed."""
        return Overflow(when, remedy_for_overflow(request.recipe, self.device))

    def to_image(self, request: PipelineRequest, pixels: NDArray[np.float32]) -> Image.Image | Overflow:
        """The picture of pixels (height, width, channels) in 0…1, rounded as diffusers does, or its error."""
        if not np.isfinite(pixels).all():
            return self.overflow(request, "while the picture was decoded")
        image: Image.Image = VaeImageProcessor.numpy_to_pil(pixels)[0].convert("RGB")
        return image

    def explain_unread(self, prompt: str) -> tuple[str, ...]:
        """A note on the part of a prompt that even the text encoder with the highest limit does not read."""
        names = [name for name in ("tokenizer", "tokenizer_2", "tokenizer_3") if getattr(self.pipe, name, None)]
        limits = {name: self.prompt_length(getattr(self.pipe, name)) for name in names if "prompt" in self.parameters}
        if not limits:
            return ()
        longest = max(limits, key=lambda name: limits[name])
        return explain_unread(find_unread(getattr(self.pipe, longest), prompt, limits[longest]), limits[longest])

    def prompt_length(self, tokenizer: Any) -> int:
        """The number of tokens that a tokenizer passes on: CLIP's own limit, or for T5 the limit of the call."""
        limit = int(tokenizer.model_max_length)
        argument = self.parameters.get(PROMPT_LENGTH)
        chosen = self.extra_arguments.get(PROMPT_LENGTH, argument.default if argument else limit)
        return limit if "CLIP" in type(tokenizer).__name__ else min(limit, int(str(chosen)))

    def call_arguments(self, requests: list[PipelineRequest]) -> dict[str, Any]:
        """The text-to-image arguments of requests with equal settings, as far as the pipeline takes them."""
        recipe = requests[0].recipe
        negative_prompts = [request.recipe.negative_prompt for request in requests]
        arguments: dict[str, Any] = {
            "prompt": [request.recipe.prompt for request in requests],
            "negative_prompt": negative_prompts if recipe.negative_prompt else None,
            "width": recipe.width,
            "height": recipe.height,
            "guidance_scale": recipe.guidance_scale,
            "num_inference_steps": recipe.steps,
            "generator": [torch.Generator("cpu").manual_seed(request.recipe.seed or 0) for request in requests],
        }
        arguments = {name: value for name, value in arguments.items() if name in self.parameters}
        if "prompt" not in self.parameters:
            arguments["batch_size"] = len(requests)
        return arguments


class ProgressBar:
    """Replaces a pipeline's progress bar: reports each step, and stops the call if every request is cancelled."""

    def __init__(
        self,
        requests: list[PipelineRequest],
        joules_used: Callable[[], float],
        check_step: Callable[[list[PipelineRequest], int], None],
        iterable: Iterable[Any] | None = None,
        total: int | None = None,
    ) -> None:
        self.requests, self.iterable, self.joules_used, self.check_step = requests, iterable, joules_used, check_step
        self.step = 0 if total is None else max(0, requests[0].recipe.steps - total)  # image to image skips some

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for item in () if self.iterable is None else self.iterable:
            yield item
            self.update()

    def update(self, steps: int = 1) -> None:
        """Count finished steps, check and report them to all requests; raises AllCancelled."""
        self.step += steps
        self.check_step(self.requests, self.step)
        joules = self.joules_used() / len(self.requests)
        for request in self.requests:
            request.messages.put(Progress(self.step, joules=joules, notes=request.notes))
        if all(request.cancelled for request in self.requests):
            raise AllCancelled


def open_pipeline(
    description: Mapping[str, Any], folder: Path, device: Device, options: PainterOptions
) -> PipelinePainter:
    """Load any diffusers pipeline from a folder or the hub; raises BadSetup, OSError or ValueError."""
    source: str = description.get("source", str(folder))
    load_options: dict[str, Any] = {"local_files_only": True}
    if "source" in description:
        load_options = {"revision": description["hub_revision"]}
    load_options["variant"] = description.get("variant")  # of the weight files, for example "fp16"
    load_options |= dict.fromkeys(description.get("without", ()))  # parts to leave out, such as a large text encoder
    try:
        pipe = DiffusionPipeline.from_pretrained(source, dtype=device.dtype, use_safetensors=True, **load_options)
    except AttributeError as error:
        raise BadSetup(f"{folder}: diffusers has no such pipeline: {error}") from error
    return PipelinePainter(
        pipe.to(device.name),
        device,
        options,
        adapters=pipeline_adapters(pipe, folder),
        extra_arguments=extra_arguments_of(pipe, description, folder),
    )


def image_to_image_pipeline(pipe: Any) -> Any:
    """The image-to-image pipeline over the same parts; None if we know of none."""
    name = type(pipe).__name__
    if name not in IMAGE_TO_IMAGE_PIPELINES:
        return None
    image_to_image = getattr(diffusers, name.replace("Pipeline", "Img2ImgPipeline"))
    parameters = inspect.signature(image_to_image).parameters
    return image_to_image(**{name: part for name, part in pipe.components.items() if name in parameters})


def extra_arguments_of(pipe: Any, description: Mapping[str, Any], folder: Path) -> dict[str, object]:
    """The arguments of every call besides the recipe's; raises BadSetup if `tokens` is set but cannot be passed."""
    if "tokens" not in description:
        return {}
    tokens = description["tokens"]
    if PROMPT_LENGTH not in inspect.signature(pipe.__call__).parameters:
        raise BadSetup(f"{folder}: tokens is {tokens!r}, but {type(pipe).__name__} has no such limit: leave it out")
    return {PROMPT_LENGTH: tokens}


def size_multiple(pipe: Any) -> int:
    """The number of pixels that the sides of the pipeline's pictures must be multiples of."""
    multiple: int = getattr(pipe, "vae_scale_factor", 1) * getattr(pipe, "patch_size", 1)
    processor = getattr(pipe, "image_processor", None)  # FLUX's takes into account that latents are packed two by two
    return max(multiple, processor.config.vae_scale_factor) if isinstance(processor, VaeImageProcessor) else multiple
