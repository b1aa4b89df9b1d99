"""A job is what a user asked for and watches; a claim is what a worker holds while it paints."""

from dataclasses import dataclass
from enum import StrEnum

from memo import SHARED, Picture, Recipe
from memo.picture import NearStart, as_requested, key_in


class State(StrEnum):
    """The state of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the state cannot change any more."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Origin(StrEnum):
    """Where the picture comes from."""

    PAINTED = "painted"
    MEMORY = "memory"
    NEAR = "near"  # painted from a remembered picture of a similar prompt
    JOINED = "joined"  # painted for another job, too


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMatch:
    """The remembered prompt that answered a job, how similar the prompts are (0 to 1), and how they match."""

    prompt: str
    score: float
    how: str  # see memo.Match


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A snapshot of one request for a picture. Times are seconds since 1970."""

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
    seconds_left: float | None = None  # of painting, while it runs, at the present pace
    message: str = ""  # a clause that says what a running painting waits for while it takes no steps
    previewed: int | None = None  # the step of the last preview, while it runs
    error: str | None = None
    notes: tuple[str, ...] = ()  # how the picture departs from the request, in words
    picture: Picture | None = None
    match: MemoryMatch | None = None
    near: NearStart | None = None  # if memory chose the picture that the painting starts from
    user: str = ""  # the name of the user; "" if it is unknown
    scope: str = SHARED  # the memory that it belongs to; users of other scopes never see it
    random_seed: bool = False  # whether the server drew the seed, because the user gave none
    always_paint: bool = False  # the user wanted a new painting, whatever was remembered or under way
    receipt: str = ""  # under which its picture counts as received, see jobs/store/received.py; "" if it never does
    waiters: int = 1  # jobs that wait for the same painting, this one included

    @property
    def wish(self) -> Recipe:
        """The user's wish: the recipe without its seed, and without an initial picture that memory chose."""
        return as_requested(self.recipe, self.near).wish

    @property
    def key(self) -> str:
        """The key of the picture that the job has or will have."""
        return self.picture.key if self.picture else key_in(self.scope, self.recipe)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to paint one painting until the lease runs out; reports with an earlier `token` are refused."""

    painting: str
    token: str
    recipe: Recipe
    scope: str
    attempt: int
    user: str = ""  # the hash of the user whose turn it was
    rank: float = 0.0  # orders the paintings of this user: the lowest goes first
    fault: str = ""  # why an earlier attempt failed, if its worker could report it
    suspect: bool = False  # a worker died while painting it, perhaps because of it: it is painted alone
    near: NearStart | None = None  # for the picture's record

    @property
    def key(self) -> str:
        """The key of the picture to be painted."""
        return key_in(self.scope, self.recipe)
