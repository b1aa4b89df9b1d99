"""The JSON documents of the native API as types, from which its description is made. Knows nothing of HTTP."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads that of typing only from Python 3.12 on

from jobs.job import Origin, State
from jobs.webhooks.receivers import LONGEST_URL
from memo import POLICIES
from memo.recipe import GUIDANCE, LARGEST_SEED, LONGEST_PROMPT, MODES, SAMPLERS, SCHEDULES, SIDE, STEPS, STRENGTH
from web.picture_requests import LONGEST_USER, MOST_PICTURES, MOST_PRIORITY


def one_of(choices: Sequence[str]) -> Any:
    """These words only."""
    return Field(json_schema_extra={"enum": list(choices)})


Key = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Text = Annotated[str, Field(max_length=LONGEST_PROMPT)]
Prompt = Annotated[str, Field(min_length=1, max_length=LONGEST_PROMPT, pattern=r"\S")]
Side = Annotated[int, Field(ge=SIDE.start, le=SIDE.stop - 1, multiple_of=8, description="pixels")]
Seconds = Annotated[float, Field(description="seconds since 1970")]
Share = Annotated[float, Field(ge=0, le=1)]


class JobBody(TypedDict, total=False):
    """What to paint. A field that is null counts as left out."""

    prompt: Required[Prompt]
    negative_prompt: Text | None
    model: Annotated[str | None, Field(description="a name from /api/v1/models; else the first of them")]
    adapter: Annotated[str | None, Field(description="one of the model's adapters")]
    width: Side | None
    height: Side | None
    steps: Annotated[int, Field(ge=STEPS.start, le=STEPS.stop - 1)] | None
    guidance_scale: Annotated[float, Field(ge=GUIDANCE[0], le=GUIDANCE[1])] | None
    sampler: Annotated[str, one_of(SAMPLERS)] | None
    schedule: Annotated[str, one_of(SCHEDULES)] | None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, description="else drawn at random")] | None
    mode: Annotated[str, one_of(MODES)] | None
    init_image: Annotated[str, Field(pattern="^([0-9a-f]{32})?$", description="the picture to start from")] | None
    strength: Annotated[float, Field(gt=0, le=1, description=f"how much of it changes; else {STRENGTH}")] | None
    memo: Annotated[str, one_of(POLICIES), Field(description="the memory policy; else auto")] | None
    count: Annotated[int, Field(ge=1, le=MOST_PICTURES)] | None
    user: Annotated[str, Field(max_length=LONGEST_USER)] | None
    priority: Annotated[int, Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY)] | None
    webhook: Annotated[str, Field(max_length=LONGEST_URL, description="a URL to tell when it is final")] | None


class LabelBody(TypedDict):
    """Whether an answer from memory was right."""

    right: bool


class FeedbackBody(TypedDict):
    """Whether a picture is right for a prompt, or for its own."""

    right: bool
    prompt: NotRequired[Prompt | None]


class RecipeDocument(TypedDict):
    """All that decides a picture."""

    prompt: str
    model: str
    revision: str
    negative_prompt: str
    adapter: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str
    seed: int | None
    mode: str
    init_image: str
    strength: float


class PictureLinks(TypedDict):
    """Where it is."""

    self: str
    image: str


class PictureDocument(RecipeDocument):
    """A picture with its recipe."""

    key: Key
    created: Seconds
    seconds: Annotated[float, Field(description="of painting")]
    device: str
    joules: float
    metered: Annotated[bool, Field(description="whether the joules were measured, else estimated")]
    recipe_text: Annotated[str, Field(description="the whole recipe; `memoaized key show` reads it")]
    links: PictureLinks
    score: NotRequired[Annotated[float, Field(description="of a search: the cosine of its words and the prompt")]]


class PicturesDocument(TypedDict):
    """One page of pictures."""

    pictures: list[PictureDocument]
    next: Annotated[str | None, Field(description="`before` of the next page")]


class JobLinks(TypedDict):
    """Where to look again."""

    self: str
    events: str
    preview: NotRequired[str]
    picture: NotRequired[str]


class MatchDocument(TypedDict):
    """Which remembered prompt answered."""

    score: float
    remembered_prompt: str
    how: Literal["same recipe", "same words", "same meaning", "shows more"]


class JobDocument(TypedDict):
    """One request for a picture, as it stands now."""

    id: str
    state: State
    origin: Origin
    reason: str
    prompt: str
    recipe: RecipeDocument
    step: int
    steps: int
    position: Annotated[int | None, Field(description="paintings asked for before it")]
    seconds_left: float | None
    message: str
    error: str | None
    created: Seconds
    started: Seconds | None
    finished: Seconds | None
    match: MatchDocument | None
    picture: PictureDocument | None
    links: JobLinks


class JobsDocument(TypedDict):
    """Several jobs."""

    jobs: list[JobDocument]


class ModelDocument(TypedDict):
    """What can be painted with."""

    name: str
    revision: str
    title: str
    licence: str
    sizes: list[int]
    size_range: Annotated[
        list[int] | None, Field(description="least, most and divisor of sides, where it paints any")
    ]
    samplers: list[str]
    schedules: list[str]
    defaults: dict[str, Any]
    adapters: list[str]
    image_to_image: Annotated[bool, Field(description="whether it can start from a picture")]
    negative_prompts: Annotated[bool, Field(description="whether it knows negative prompts")]


class ModelsDocument(TypedDict):
    """The models there are, the default one first."""

    models: list[ModelDocument]


class AuditedDocument(TypedDict):
    """What audits found; the interval is Wilson's at 95 %."""

    answers: int
    wrong: int
    false_hit_rate: Share | None
    low: Share
    high: Share


class StatsDocument(TypedDict):
    """How jobs were answered, and what that saved."""

    jobs: float
    painted: int
    memory: int
    joined: int
    hit_rate: Share | None
    seconds_saved: float
    watt_hours_spent: float
    watt_hours_saved: float
    audited: AuditedDocument
    audited_relaxed: AuditedDocument


class HistoryDocument(TypedDict):
    """What was counted, a value for each time."""

    span: str
    seconds: Annotated[int, Field(description="from one time to the next")]
    times: list[int]
    painted: list[float]
    memory: list[float]
    joined: list[float]
    pictures_per_minute: list[float]
    hit_rate: list[float | None]
    batch_size: list[float | None]
    watt_hours_spent: list[float]
    watt_hours_saved: list[float]


class InitImageDocument(TypedDict):
    """The value of a job's `init_image`."""

    init_image: Key


class ProblemDocument(TypedDict):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: NotRequired[Annotated[str, Field(description="of the request, which cannot be followed")]]
    value: NotRequired[str]
    fix: NotRequired[Annotated[str, Field(description="what would be accepted")]]
