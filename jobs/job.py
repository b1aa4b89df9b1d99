"""What a person asked for and sees (a job), and what a worker holds while it paints (a claim)."""

from dataclasses import dataclass
from enum import StrEnum

from memo import SHARED, Picture, Recipe
from memo.picture import key_in


class State(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Origin(StrEnum):
    """How the picture comes about."""

    PAINTED = "painted"
    MEMORY = "memory"
    JOINED = "joined"  # another job's painting of the same wish


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMatch:
    """Which remembered prompt answered, and how near it is."""

    prompt: str
    score: float
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A snapshot of one request. Times are seconds since 1970."""

    id: str
    painting: str | None  # None when memory answered
    state: State
    origin: Origin
    reason: str
    recipe: Recipe
    created: float
    started: float | None = None
    finished: float | None = None
    step: int = 0
    position: int | None = None  # paintings before this one in the queue
    seconds_left: float | None = None  # of painting, while it runs, as steps go now
    message: str = ""  # what is waited for, in words, while it runs and steps say nothing
    previewed: int | None = None  # the step whose preview can be seen, while it runs
    error: str | None = None
    picture: Picture | None = None
    match: MemoryMatch | None = None
    user: str = ""  # whoever asked, as they call themselves
    scope: str = SHARED  # whose memory it belongs to: others are never told of it
    random_seed: bool = False  # the seed was drawn here, not asked for
    always_paint: bool = False  # whatever was remembered or under way
    waiters: int = 1  # jobs that wait for the same painting, this one among them

    @property
    def key(self) -> str:
        """Of the picture that it has, or will have."""
        return self.picture.key if self.picture else key_in(self.scope, self.recipe)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to paint one painting, until the lease runs out; `token` fences off earlier claimants."""

    painting: str
    token: str
    recipe: Recipe
    scope: str
    attempt: int
    user: str = ""  # whose turn it was
    rank: float = 0.0  # among what this user waits for: less is sooner
    fault: str = ""  # what an earlier attempt failed of, if it could say so

    @property
    def key(self) -> str:
        """Of the picture to be painted."""
        return key_in(self.scope, self.recipe)
