"""The step loop: paintings of one network advance together, one denoising step at a time.

Paintings of one shape and one adapter share every call of the network, even if their steps, samplers, guidance and
lengths differ. They join and leave between any two steps, so a short painting never waits for a long one to end. One
thread owns the network; each caller waits in a thread of its own. Knows tensors; neither recipes nor queues nor
images.
"""

import logging
import math
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .batch_size import BatchSizes
from .denoiser import Conditioning
from .energy import Meter
from .on_demand_thread import OnDemandThread
from .overflow import Overflow, sound_rows
from .samplers import StepTable, advance

log = logging.getLogger(__name__)

MAX_PADDING = 1.5  # times a batch's rows: padding beyond that costs more than compiling saves
TIMED_STEPS = 3  # steps that are timed to learn how long one takes


@dataclass(frozen=True, slots=True)
class Step:
    """What the loop reports after each step of a painting."""

    number: int
    seconds_left: float  # at the current speed
    joules: float  # spent on the painting so far
    denoised: Tensor  # (channels, height, width): the current estimate of the final latents


OnLatentStep = Callable[[Step], None]


class Network(Protocol):
    """The denoising network, called once a step for all paintings of a batch."""

    def features(self, conditioning: Conditioning) -> list[Tensor]:
        """Features that depend on the conditioning alone, computed once per painting."""

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        features: list[Tensor],
        *,
        reproducible: bool = False,
    ) -> Tensor:
        """The prediction for rows (n, channels, height, width) at one timestep each.

        `reproducible` rules out compiled code, whose rounding may differ from one start of the worker to the next.
        """

    def set_adapter(self, adapter: str) -> None:
        """Use this adapter (LoRA) from now on, "" for none; raises if it cannot be loaded."""


@dataclass(eq=False)
class Painting:
    """One painting in the loop: what to paint, and how far it is."""

    table: StepTable
    conditioning: Conditioning  # with guidance two rows, the negative prompt's first; without it one row
    guidance_scale: float
    generator: torch.Generator  # draws all noise on the CPU in float32: it depends on the seed, not on the batch
    shape: tuple[int, ...]  # of the latents: channels, height, width
    reproducible: bool = False  # always computed at one number of rows, so that no other painting changes its bits
    init_latents: Tensor | None = None  # of the init image, in `shape`; for an image-to-image table
    adapter: str = ""
    user: str = ""
    rank: float = 0.0  # among this user's paintings; the lowest goes first
    arrived_at: float = 0.0
    started: bool = False
    cancelled: bool = False
    step: int = 0
    latents: Tensor = field(default_factory=lambda: torch.zeros(()))
    denoised: Tensor = field(default_factory=lambda: torch.zeros(()))  # the previous step's estimate
    pending_noise: Tensor | None = None  # drawn for a step that is not done yet; a retry of the step uses it again
    features: list[Tensor] = field(default_factory=list)
    joules: float = 0.0  # this painting's share of the energy of its steps, by rows
    messages: "queue.SimpleQueue[Step | Tensor | Exception]" = field(default_factory=queue.SimpleQueue)

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Equal for paintings that can share a step."""
        return self.shape, self.adapter, self.reproducible


class StepLoop:
    """Paints with one network on its device; `batch_sizes` decides how many paintings run at once.

    `buckets` are the row counts that the network is compiled for. A step of the usual shape is padded to the next
    bucket if that has at most MAX_PADDING times its rows. Reproducible paintings are always computed at
    `reproducible_rows` rows.
    """

    def __init__(
        self,
        network: Network,
        batch_sizes: BatchSizes,
        *,
        device: str = "cpu",
        buckets: Sequence[int] = (),
        reproducible_rows: int = 0,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network, self.batch_sizes, self.clock = network, batch_sizes, clock
        self.meter = meter or Meter(lambda: 0.0, measured=False)
        self.device, self.buckets = torch.device(device), sorted(buckets)
        self.reproducible_rows = reproducible_rows or 2 * batch_sizes.max_size
        self.usual_shape: tuple[int, ...] | None = None  # the shape whose steps are timed; by default the first one
        self.waiting: list[Painting] = []
        self.active: list[Painting] = []
        self.thread = OnDemandThread("step loop", lambda: self.waiting or self.active, self.tick_or_fail)
        self.changed = self.thread.changed
        self.tick_seconds = 0.0  # duration of the last tick
        self.last_error: Exception | None = None  # the last error of a step, unless memory was full

    def paint(self, painting: Painting, on_step: OnLatentStep) -> Tensor:
        """The latents (channels, height, width). `on_step` is called after each step and may raise to cancel."""
        painting.arrived_at = self.clock()
        with self.changed:
            self.waiting.append(painting)
            self.thread.wake()
        try:
            while not isinstance(message := painting.messages.get(), Tensor):
                if isinstance(message, Exception):
                    raise message
                on_step(message)
            return message
        finally:
            painting.cancelled = True

    def tick_or_fail(self) -> None:
        """Run one tick; if the loop itself breaks, fail all paintings and start empty."""
        try:
            self.tick()
        except Exception as error:  # any error must reach the callers, or they would wait for ever
            log.exception("the step loop failed")
            self.fail_all(error)

    def fail_all(self, error: Exception) -> None:
        """Fail all paintings and forget them."""
        with self.changed:
            for painting in [*self.active, *self.waiting]:
                fail(painting, error)
            self.active, self.waiting = [], []

    @torch.inference_mode()
    def tick(self) -> None:
        """Drop cancelled paintings, admit waiting ones, and take one step with every active painting."""
        with self.changed:
            self.waiting = [painting for painting in self.waiting if not painting.cancelled]
            self.active = [painting for painting in self.active if not painting.cancelled]
            self.active += self.admit()
        started_at = self.clock()
        for group in group_by_batch_key(self.active):
            for batch in split_by_rows(group, self.reproducible_rows) if group[0].reproducible else [group]:
                self.advance_or_fail(batch)
        if self.active:
            self.tick_seconds = self.clock() - started_at
            unfinished = [painting for painting in self.active if painting.step < len(painting.table)]
            self.active = [painting for painting in unfinished if not painting.cancelled]

    def admit(self) -> list[Painting]:
        """Take the paintings that may start now from the waiting ones, in turn."""
        admitted: list[Painting] = []
        while self.waiting:
            others = [*self.active, *admitted]
            candidate = next_in_line(self.waiting, others)
            if not self.can_admit(candidate, others):
                break
            self.waiting.remove(candidate)
            admitted.append(candidate)
        return admitted

    def can_admit(self, candidate: Painting, others: Sequence[Painting]) -> bool:
        """Whether a painting may start beside the others."""
        same_batch = [other for other in others if other.batch_key == candidate.batch_key]
        return self.batch_sizes.can_admit(
            sum(map(self.relative_area, others)),
            self.clock() - candidate.arrived_at,
            len(candidate.table),
            self.relative_area(candidate),
            same_batch=sum(map(self.relative_area, same_batch)),
        )

    def relative_area(self, painting: Painting) -> float:
        """The area of a painting in pictures of the usual size: roughly its share of a step's time and memory."""
        return math.prod(painting.shape[1:]) / math.prod((self.usual_shape or painting.shape)[1:])

    def advance_or_fail(self, paintings: Sequence[Painting]) -> None:
        """Take one step; if memory is full, send half of the paintings back; on any other error, try each alone.

        A painting that fails alone raises its error in its caller's thread. The loop goes on with the others.
        """
        try:
            self.network.set_adapter(paintings[0].adapter)
            for painting in paintings:
                self.start(painting)
            self.advance(paintings)
        except torch.OutOfMemoryError as error:
            self.halve_batch(paintings, error)
        except Exception as error:
            log.exception("a step of %d paintings failed", len(paintings))
            self.last_error = error
            if len(paintings) == 1:
                fail(paintings[0], error)
                return
            for painting in paintings:
                self.advance_or_fail([painting])

    def halve_batch(self, paintings: Sequence[Painting], error: Exception) -> None:
        """Lower the limit to half; the last arrivals wait and keep the steps they have done. A lone painting fails.

        Reproducible paintings fail together: fewer would be padded to the same number of rows.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(paintings) == 1 or paintings[0].reproducible:
            for painting in paintings:
                fail(painting, error)
            return
        half = len(paintings) // 2
        log.warning("memory is full with %d paintings at once; the limit is %d from now on", len(paintings), half)
        self.batch_sizes.lower_limit(int(sum(map(self.relative_area, paintings[:half]))))
        with self.changed:
            returned = list(paintings[half:])
            self.active = [painting for painting in self.active if painting not in returned]
            self.waiting = [*returned, *self.waiting]

    def start(self, painting: Painting) -> None:
        """Draw the first noise and compute the features, once per painting."""
        self.usual_shape = self.usual_shape or painting.shape
        if not painting.started:
            latents = draw_noise(painting) * painting.table.noise_scale
            if painting.init_latents is not None:
                latents += painting.table.init_scale * painting.init_latents
            painting.latents = latents.to(self.device)
            painting.denoised = torch.zeros(painting.shape, device=self.device)
            painting.conditioning = painting.conditioning.to(self.device)
            painting.features = self.network.features(painting.conditioning)
            painting.started, painting.pending_noise = True, None

    def advance(self, paintings: Sequence[Painting]) -> None:
        """Take one step with a batch of paintings."""
        rows = torch.stack([painting.table.rows[painting.step] for painting in paintings]).to(self.device)
        latents = torch.stack([painting.latents for painting in paintings])
        denoised = torch.stack([painting.denoised for painting in paintings])
        with self.meter.measure() as joules_used:
            started_at = self.clock()
            output = self.predict(paintings, rows, latents)
            noise = torch.stack([step_noise(painting) for painting in paintings]).to(self.device)
            latents, denoised = advance(rows, latents, output, denoised, noise)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds, joules = self.clock() - started_at, joules_used()
        if paintings[0].shape == self.usual_shape and not paintings[0].reproducible:
            self.batch_sizes.record_step(len(paintings), seconds)
        row_joules = joules / sum(len(painting.conditioning) for painting in paintings)
        sound = sound_rows(torch.maximum(latents.abs(), denoised.abs()))
        for number, painting in enumerate(paintings):
            painting.joules += row_joules * len(painting.conditioning)
            painting.latents, painting.denoised = latents[number], denoised[number]
            if sound[number]:
                self.finish_step(painting, seconds)
            else:
                self.last_error = Overflow(f"at step {painting.step + 1}")
                fail(painting, self.last_error)

    def finish_step(self, painting: Painting, seconds: float) -> None:
        """Count a step that took `seconds` and report it; after the last step, send the latents."""
        painting.pending_noise = None
        painting.step += 1
        seconds_left = max(seconds, self.tick_seconds) * (len(painting.table) - painting.step)
        painting.messages.put(Step(painting.step, seconds_left, painting.joules, painting.denoised))
        if painting.step == len(painting.table):
            painting.messages.put(painting.latents.clone())

    def padded_rows(self, painting: Painting, rows: int) -> int:
        """The number of rows to call the network with, for a batch of paintings like this one."""
        if painting.shape != self.usual_shape or painting.adapter:
            return rows
        return next((bucket for bucket in self.buckets if rows <= bucket <= MAX_PADDING * rows), rows)

    def predict(self, paintings: Sequence[Painting], rows: Tensor, latents: Tensor) -> Tensor:
        """The network's prediction for each painting, with guidance applied; (n, channels, height, width)."""
        owners = [number for number, painting in enumerate(paintings) for _ in range(len(painting.conditioning))]
        reproducible = paintings[0].reproducible
        padded = self.reproducible_rows if reproducible else self.padded_rows(paintings[0], len(owners))
        # a row's bits depend on the number of rows, not on what the other rows hold
        padded_owners = [*owners, *[owners[0]] * (padded - len(owners))]
        conditioning = join_conditioning([painting.conditioning for painting in paintings], padded)
        levels = zip(*(painting.features for painting in paintings), strict=True)
        output = self.network.predict(
            (rows[:, 1, None, None, None] * latents)[padded_owners],
            rows[padded_owners, 0],
            conditioning,
            [pad_rows(level, padded) for level in levels],
            reproducible=reproducible,
        )[: len(owners)]
        parts = torch.split(output, [len(painting.conditioning) for painting in paintings])
        scales = [painting.guidance_scale for painting in paintings]
        return torch.stack([apply_guidance(part, scale) for part, scale in zip(parts, scales, strict=True)])


def time_steps(loop: StepLoop, paintings: Sequence[Painting], count: int = TIMED_STEPS) -> list[float]:
    """Seconds of `count` steps of all paintings together, after one warm-up step; empty if memory cannot hold them.

    Each painting needs at least `count + 1` steps. Raises any other error of a step.
    """
    loop.waiting, times = list(paintings), []
    for number in range(1, 2 + count):
        started_at = loop.clock()
        loop.tick()
        times.append(loop.clock() - started_at)
        if loop.last_error is not None:
            raise loop.last_error
        if any(painting.step < number for painting in paintings):
            return []
    return times[1:]


def next_in_line(waiting: Sequence[Painting], active: Sequence[Painting]) -> Painting:
    """The painting that starts next: from the users with the fewest active paintings, by rank, then by arrival.

    A user with hundreds of paintings delays another user's first one only by the paintings already active.
    """
    active_counts = Counter(painting.user for painting in active)
    return min(waiting, key=lambda painting: (active_counts[painting.user], painting.rank, painting.arrived_at))


def group_by_batch_key(paintings: Sequence[Painting]) -> list[list[Painting]]:
    """Groups of paintings that can share a step: one shape, one adapter, all reproducible or none."""
    groups: dict[tuple[object, ...], list[Painting]] = {}
    for painting in paintings:
        groups.setdefault(painting.batch_key, []).append(painting)
    return list(groups.values())


def split_by_rows(paintings: Sequence[Painting], max_rows: int) -> list[list[Painting]]:
    """Batches of at most `max_rows` rows each; a painting with more rows gets a batch of its own."""
    batches: list[list[Painting]] = [[]]
    for painting in paintings:
        rows = sum(len(other.conditioning) for other in batches[-1])
        if batches[-1] and rows + len(painting.conditioning) > max_rows:
            batches.append([])
        batches[-1].append(painting)
    return batches


def step_noise(painting: Painting) -> Tensor:
    """The noise that the sampler adds at this step; zeros for a step without noise."""
    return draw_noise(painting) if painting.table.rows[painting.step, -1] else torch.zeros(painting.shape)


def draw_noise(painting: Painting) -> Tensor:
    """The painting's next noise; it stays the same until the step is done."""
    if painting.pending_noise is None:
        painting.pending_noise = torch.randn(painting.shape, generator=painting.generator)
    return painting.pending_noise


def apply_guidance(output: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: the prompt's row, pushed away from the negative prompt's; a single row as it is."""
    if len(output) == 1:
        return output[0]
    negative, positive = output[0], output[1]
    return negative + scale * (positive - negative)


def join_conditioning(conditionings: Sequence[Conditioning], rows: int) -> Conditioning:
    """All rows in one Conditioning, padded with the first row to `rows` rows."""
    fields = zip(*(conditioning.parts() for conditioning in conditionings), strict=True)
    return Conditioning(*(None if parts[0] is None else pad_rows(parts, rows) for parts in fields))


def pad_rows(parts: Sequence[Tensor], rows: int) -> Tensor:
    """All parts in one tensor, padded with its first row to `rows` rows."""
    joined = torch.cat(list(parts))
    missing = rows - len(joined)
    return torch.cat([joined, joined[:1].expand(missing, *joined.shape[1:])]) if missing > 0 else joined


def fail(painting: Painting, error: Exception) -> None:
    """Cancel a painting and raise the error in its caller's thread."""
    painting.cancelled = True
    painting.messages.put(error)
