"""The step loop: paintings of one network advance together, one denoising step of all of them at a time.

Paintings at different steps, of different samplers, guidance and lengths share every call of the network, if they are
of one shape and wear the same adapter; they come and go between any two steps, so that a short one never waits for a
long one to end. One thread owns the network; whoever wants a painting waits in a thread of its own. Knows tensors;
neither recipes nor queues nor images.
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
from .samplers import Table, advance

log = logging.getLogger(__name__)

NEAR = 1.5  # times the rows, up to which a step is filled up: more would cost more than compiling saves
LOOKS = 3  # steps that are timed to learn how long one takes


@dataclass(frozen=True, slots=True)
class Step:
    """What a painting is told after each of its steps."""

    number: int
    seconds_left: float  # as steps go now
    joules: float  # spent on it so far
    clean: Tensor  # (channels, height, width): what the latents will be, as far as one can tell by now


OnLatentStep = Callable[[Step], None]


class Network(Protocol):
    """What is called once a step, for all paintings."""

    def features(self, conditioning: Conditioning) -> list[Tensor]:
        """What is computed once a painting."""

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        features: list[Tensor],
        *,
        exact: bool = False,
    ) -> Tensor:
        """Rows (n, channels, height, width) at a timestep each; exactly as always, or as fast as can be."""

    def set_adapter(self, adapter: str) -> None:
        """Calculate with this adapter (LoRA) from now on, "" for none; raises for one that cannot be had."""


@dataclass(eq=False)
class Ticket:
    """One painting on its way through the loop."""

    table: Table
    conditioning: Conditioning  # two rows where it is guided, the negative prompt's first; else one
    guidance: float
    generator: torch.Generator  # all of its noise, drawn on the CPU in float32: the seed decides, not the company
    shape: tuple[int, ...]  # of its latents: channels, height, width
    fixed: bool = False  # calculated at one width always, so that its bits are the same in any company
    picture: Tensor | None = None  # latents to start from, shaped alike, for a table that keeps something of them
    adapter: str = ""
    user: str = ""
    rank: float = 0.0  # among what this user waits for: less is sooner
    came: float = 0.0
    begun: bool = False
    gone: bool = False  # nobody waits for it any more
    step: int = 0
    latents: Tensor = field(default_factory=lambda: torch.zeros(()))
    kept: Tensor = field(default_factory=lambda: torch.zeros(()))
    drawn: Tensor | None = None  # noise of a step that is not done: should it be tried again, it is the same
    features: list[Tensor] = field(default_factory=list)
    joules: float = 0.0  # its rows' share of what its steps cost
    news: "queue.SimpleQueue[Step | Tensor | Exception]" = field(default_factory=queue.SimpleQueue)

    @property
    def kind(self) -> tuple[object, ...]:
        """What all that share a step have in common."""
        return self.shape, self.adapter, self.fixed


class Loop:
    """Paints tickets over one network, on its device, as many at once as `widths` says.

    A network that is compiled for certain numbers of rows has these as its `buckets`: a step of the usual shape is
    filled up to the next of them, where that is near. Fixed paintings are calculated at `exact_rows` rows always.
    """

    def __init__(
        self,
        network: Network,
        widths: BatchSizes,
        *,
        device: str = "cpu",
        buckets: Sequence[int] = (),
        exact_rows: int = 0,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network, self.widths, self.clock = network, widths, clock
        self.meter = meter or Meter(lambda: 0.0, measured=False)
        self.device, self.buckets = torch.device(device), sorted(buckets)
        self.exact_rows = exact_rows or 2 * widths.most
        self.usual: tuple[int, ...] | None = None  # the shape whose steps `widths` tells of: the first that comes
        self.waiting: list[Ticket] = []
        self.active: list[Ticket] = []
        self.thread = OnDemandThread("step loop", lambda: self.waiting or self.active, self.tick_or_fail)
        self.changed = self.thread.changed
        self.took = 0.0  # seconds of the last step of all
        self.fault: Exception | None = None  # the last of a step, but for full memory

    def paint(self, ticket: Ticket, on_step: OnLatentStep) -> Tensor:
        """The latents (channels, height, width); `on_step` after each step, and what it raises stops the painting."""
        ticket.came = self.clock()
        with self.changed:
            self.waiting.append(ticket)
            self.thread.wake()
        try:
            while not isinstance(news := ticket.news.get(), Tensor):
                if isinstance(news, Exception):
                    raise news
                on_step(news)
            return news
        finally:
            ticket.gone = True

    def tick_or_fail(self) -> None:
        """One step; if the loop itself is at fault all paintings fail, and it begins anew."""
        try:
            self.tick()
        except Exception as error:  # whatever it is, all who wait for a painting are told, and none waits for ever
            log.exception("the step loop stumbled")
            self.fail_all(error)

    def fail_all(self, error: Exception) -> None:
        """Tell everybody, and begin anew."""
        with self.changed:
            for ticket in [*self.active, *self.waiting]:
                fail(ticket, error)
            self.active, self.waiting = [], []

    @torch.inference_mode()
    def tick(self) -> None:
        """Let go who is gone, let in who may come, and take one step with all."""
        with self.changed:
            self.waiting = [ticket for ticket in self.waiting if not ticket.gone]
            self.active = [ticket for ticket in self.active if not ticket.gone]
            self.active += self.admitted()
        begun = self.clock()
        for group in alike(self.active):
            for tickets in within(group, self.exact_rows) if group[0].fixed else [group]:
                self.advance_or_fail(tickets)
        if self.active:
            self.took = self.clock() - begun
            self.active = [ticket for ticket in self.active if ticket.step < len(ticket.table) and not ticket.gone]

    def admitted(self) -> list[Ticket]:
        """Who may come in now, in turn."""
        came: list[Ticket] = []
        while self.waiting:
            following = turn(self.waiting, [*self.active, *came])
            waited, size = self.clock() - following.came, self.size(following)
            others = [*self.active, *came]
            beside = sum(self.size(other) for other in others if other.kind == following.kind)
            if not self.widths.room(sum(map(self.size, others)), waited, len(following.table), size, beside=beside):
                break
            self.waiting.remove(following)
            came.append(following)
        return came

    def size(self, ticket: Ticket) -> float:
        """Its area in pictures of the usual size: what it adds to a step, and takes of the memory, roughly."""
        return math.prod(ticket.shape[1:]) / math.prod((self.usual or ticket.shape)[1:])

    def advance_or_fail(self, tickets: Sequence[Ticket]) -> None:
        """One step; if memory is full half of them wait, if anything else is wrong each is tried alone.

        Whatever goes wrong with one is raised where it is waited for, and the loop goes on for the others.
        """
        try:
            self.network.set_adapter(tickets[0].adapter)
            for ticket in tickets:
                self.begin(ticket)
            self.advance(tickets)
        except torch.OutOfMemoryError as error:
            self.make_room(tickets, error)
        except Exception as error:
            log.exception("a step of %d paintings failed", len(tickets))
            self.fault = error
            if len(tickets) == 1:
                fail(tickets[0], error)
                return
            for ticket in tickets:
                self.advance_or_fail([ticket])

    def make_room(self, tickets: Sequence[Ticket], error: Exception) -> None:
        """Halve the width; who came last waits with all its steps done so far. Alone, a painting fails.

        Fixed ones fail together: fewer would be filled up to the same width.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(tickets) == 1 or tickets[0].fixed:
            for ticket in tickets:
                fail(ticket, error)
            return
        half = len(tickets) // 2
        log.warning("memory is full with %d paintings at once: %d from now on", len(tickets), half)
        self.widths.limit(int(sum(map(self.size, tickets[:half]))))
        with self.changed:
            back = list(tickets[half:])
            self.active = [ticket for ticket in self.active if ticket not in back]
            self.waiting = [*back, *self.waiting]

    def begin(self, ticket: Ticket) -> None:
        """First noise, and what is computed once."""
        self.usual = self.usual or ticket.shape
        if not ticket.begun:
            latents = drawn(ticket) * ticket.table.start
            if ticket.picture is not None:
                latents += ticket.table.kept * ticket.picture
            ticket.latents = latents.to(self.device)
            ticket.kept = torch.zeros(ticket.shape, device=self.device)
            ticket.conditioning = ticket.conditioning.to(self.device)
            ticket.features = self.network.features(ticket.conditioning)
            ticket.begun, ticket.drawn = True, None

    def advance(self, tickets: Sequence[Ticket]) -> None:
        """One step of some paintings."""
        rows = torch.stack([ticket.table.rows[ticket.step] for ticket in tickets]).to(self.device)
        latents = torch.stack([ticket.latents for ticket in tickets])
        kept = torch.stack([ticket.kept for ticket in tickets])
        with self.meter.used() as spent:
            begun = self.clock()
            output = self.predict(tickets, rows, latents)
            added = torch.stack([noise(ticket) for ticket in tickets]).to(self.device)
            latents, kept = advance(rows, latents, output, kept, added)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            took, joules = self.clock() - begun, spent()
        if tickets[0].shape == self.usual and not tickets[0].fixed:
            self.widths.took(len(tickets), took)
        cost = joules / sum(len(ticket.conditioning) for ticket in tickets)
        for number, ticket in enumerate(tickets):
            ticket.joules += cost * len(ticket.conditioning)
            ticket.latents, ticket.kept, ticket.drawn = latents[number], kept[number], None
            ticket.step += 1
            left = max(took, self.took) * (len(ticket.table) - ticket.step)
            ticket.news.put(Step(ticket.step, left, ticket.joules, kept[number]))
            if ticket.step == len(ticket.table):
                ticket.news.put(ticket.latents.clone())

    def bucket(self, ticket: Ticket, rows: int) -> int:
        """How many rows the network is called with for so many of paintings like this one."""
        if ticket.shape != self.usual or ticket.adapter:
            return rows
        return next((bucket for bucket in self.buckets if rows <= bucket <= NEAR * rows), rows)

    def predict(self, tickets: Sequence[Ticket], rows: Tensor, latents: Tensor) -> Tensor:
        """What the network says to each painting, guided; (n, channels, height, width)."""
        of = [number for number, ticket in enumerate(tickets) for _ in range(len(ticket.conditioning))]
        exact = tickets[0].fixed
        width = self.exact_rows if exact else self.bucket(tickets[0], len(of))
        filled = [*of, *[of[0]] * (width - len(of))]  # the bits of a row depend on the width, not on the other rows
        conditioning = joined([ticket.conditioning for ticket in tickets], width)
        features = [padded(level, width) for level in zip(*(ticket.features for ticket in tickets), strict=True)]
        output = self.network.predict(
            (rows[:, 1, None, None, None] * latents)[filled], rows[filled, 0], conditioning, features, exact=exact
        )[: len(of)]
        parts = torch.split(output, [len(ticket.conditioning) for ticket in tickets])
        return torch.stack([guided(part, ticket.guidance) for part, ticket in zip(parts, tickets, strict=True)])


def step_times(loop: Loop, tickets: Sequence[Ticket], looks: int = LOOKS) -> list[float]:
    """Seconds of so many steps of all together, after one that does not count; none if memory is too small for all.

    Each wants one step more than that. Raises what else goes wrong.
    """
    loop.waiting, times = list(tickets), []
    for number in range(1, 2 + looks):
        begun = loop.clock()
        loop.tick()
        times.append(loop.clock() - begun)
        if loop.fault is not None:
            raise loop.fault
        if any(ticket.step < number for ticket in tickets):
            return []
    return times[1:]


def turn(waiting: Sequence[Ticket], active: Sequence[Ticket]) -> Ticket:
    """Whose turn it is: of those whose owner has fewest under way the first in line, who came first of these.

    Whoever asks for hundreds delays another's first by what is under way, and no more.
    """
    under_way = Counter(ticket.user for ticket in active)
    return min(waiting, key=lambda ticket: (under_way[ticket.user], ticket.rank, ticket.came))


def alike(tickets: Sequence[Ticket]) -> list[list[Ticket]]:
    """Those that can share a step: of one shape, with one adapter, all of them fixed or none."""
    groups: dict[tuple[object, ...], list[Ticket]] = {}
    for ticket in tickets:
        groups.setdefault(ticket.kind, []).append(ticket)
    return list(groups.values())


def within(tickets: Sequence[Ticket], rows: int) -> list[list[Ticket]]:
    """In parts of at most so many rows each, or of one."""
    parts: list[list[Ticket]] = [[]]
    for ticket in tickets:
        if parts[-1] and sum(len(one.conditioning) for one in parts[-1]) + len(ticket.conditioning) > rows:
            parts.append([])
        parts[-1].append(ticket)
    return parts


def noise(ticket: Ticket) -> Tensor:
    """What a painting's sampler adds at this step."""
    return drawn(ticket) if ticket.table.rows[ticket.step, -1] else torch.zeros(ticket.shape)


def drawn(ticket: Ticket) -> Tensor:
    """The painting's next noise, drawn once."""
    if ticket.drawn is None:
        ticket.drawn = torch.randn(ticket.shape, generator=ticket.generator)
    return ticket.drawn


def guided(output: Tensor, scale: float) -> Tensor:
    """The output for the prompt, pushed away from the one for the negative prompt; of one row, itself."""
    if len(output) == 1:
        return output[0]
    negative, positive = output[0], output[1]
    return negative + scale * (positive - negative)


def joined(conditioning: Sequence[Conditioning], width: int) -> Conditioning:
    """All rows, and the first again until there are so many."""
    parts = zip(*(one.parts() for one in conditioning), strict=True)
    return Conditioning(*(None if part[0] is None else padded(part, width) for part in parts))


def padded(parts: Sequence[Tensor], width: int) -> Tensor:
    """All rows, and the first again until there are so many."""
    rows = torch.cat(list(parts))
    return torch.cat([rows, rows[:1].expand(width - len(rows), *rows.shape[1:])]) if width > len(rows) else rows


def fail(ticket: Ticket, error: Exception) -> None:
    """Tell whoever waits."""
    ticket.gone = True
    ticket.news.put(error)
