"""The JSON documents of the native API as types. `openapi` generates their schemas from them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import Field
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12 on

from jobs.job import Origin, State
from jobs.webhooks.receivers import LONGEST_URL
from memo import POLICIES
from memo.recipe import GUIDANCE, LARGEST_SEED, LONGEST_PROMPT, MODES, SAMPLERS, SCHEDULES, SIDE, STEPS, STRENGTH
from web.picture_requests import HIGHEST_PRIORITY, LONGEST_USER, MAX_PICTURES


def enum(choices: Sequence[str]) -> Any:
    """A field that must be one of these words."""
    return Field(json_schema_extra={"enum": list(choices)})


PictureKey = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Text = Annotated[str, Field(max_length=LONGEST_PROMPT)]
Prompt = Annotated[str, Field(min_length=1, max_length=LONGEST_PROMPT, pattern=r"\S")]
SideLength = Annotated[int, Field(ge=SIDE.start, le=SIDE.stop - 1, multiple_of=8, description="pixels")]
InitImage = Annotated[
    str, Field(pattern="^([0-9a-f]{32})?$", description="an upload's id, or a picture's key; empty for none")
]
Priority = Annotated[
    int,
    Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY, description="orders this user's jobs; the highest goes first"),
]
Timestamp = Annotated[float, Field(description="seconds since 1970")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[
    float, Field(gt=0, le=1, description=f"how much of the initial image changes; by default {STRENGTH}")
]


class JobBody(TypedDict, total=False):
    """The picture to paint. A field that is null counts as left out."""

    prompt: Required[Prompt]
    negative_prompt: Text | None
    model: Annotated[str | None, Field(description="a name from /api/v1/models; by default the first")]
    adapter: Annotated[str | None, Field(description="NAME or NAME:WEIGHT of one of the model's adapters")]
    width: SideLength | None
    height: SideLength | None
    steps: Annotated[int, Field(ge=STEPS.start, le=STEPS.stop - 1)] | None
    guidance_scale: Annotated[float, Field(ge=GUIDANCE[0], le=GUIDANCE[1])] | None
    sampler: Annotated[str, enum(SAMPLERS)] | None
    schedule: Annotated[str, enum(SCHEDULES)] | None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, description="random by default")] | None
    mode: Annotated[str, enum(MODES), Field(description="reproducible: the same bits whatever else runs")] | None
    init_image: InitImage | None
    strength: Strength | None
    memo: (
        Annotated[str, enum(POLICIES), Field(description="the memory policy; by default the server's, usually auto")]
        | None
    )
    count: Annotated[int, Field(ge=1, le=MAX_PICTURES)] | None
    user: Annotated[str, Field(max_length=LONGEST_USER, description="who asks; by default the key's name")] | None
    priority: Priority | None
    webhook: Annotated[str, Field(max_length=LONGEST_URL, description="a URL to notify when the job is final")] | None


class LabelBody(TypedDict):
    """Whether an answer from memory was right."""

    right: bool


class FeedbackBody(TypedDict):
    """Whether a picture is right for a prompt, by default its own."""

    right: bool
    prompt: NotRequired[Prompt | None]


class RecipeDocument(TypedDict):
    """Everything that determines a picture."""

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


class NearDocument(TypedDict):
    """The remembered picture of a similar prompt from which a picture was painted."""

    picture: Annotated[PictureKey, Field(description="its key")]
    share: Annotated[float, Field(ge=0, le=3, description="how much of it the prompts share; 3 is everything")]
    strength: Annotated[float, Field(gt=0, le=1, description="how much of it changes")]
    steps_saved: int


class PictureLinks(TypedDict):
    """The addresses of a picture."""

    self: str
    image: str


class PictureDocument(RecipeDocument):
    """A picture with its recipe."""

    key: PictureKey
    created: Timestamp
    seconds: Annotated[float, Field(description="the painting time")]
    device: str
    joules: float
    metered: Annotated[bool, Field(description="whether the joules were measured; otherwise they are an estimate")]
    near: NearDocument | None
    recipe_text: Annotated[str, Field(description="the whole recipe; `memoaized key show` reads it")]
    links: PictureLinks
    score: NotRequired[Annotated[float, Field(description="in a search: the cosine similarity")]]


class PicturesDocument(TypedDict):
    """One page of pictures."""

    pictures: list[PictureDocument]
    next: Annotated[str | None, Field(description="the value of `before` for the next page")]


class JobLinks(TypedDict):
    """The addresses of a job."""

    self: str
    events: str
    preview: NotRequired[str]
    picture: NotRequired[str]


class MatchDocument(TypedDict):
    """The remembered prompt that answered a job."""

    score: float
    remembered_prompt: str
    how: Literal["same recipe", "same words", "same meaning", "shows more"]


class JobDocument(TypedDict):
    """One request for a picture, in its present state."""

    id: str
    state: State
    origin: Origin
    reason: str
    prompt: str
    recipe: RecipeDocument
    step: int
    steps: int
    position: Annotated[int | None, Field(description="how many paintings are ahead of it")]
    seconds_left: float | None
    message: str
    notes: Annotated[list[str], Field(description="how the picture departs from the request, in words")]
    error: str | None
    created: Timestamp
    started: Timestamp | None
    finished: Timestamp | None
    match: MatchDocument | None
    near: NearDocument | None
    picture: PictureDocument | None
    links: JobLinks


class JobsDocument(TypedDict):
    """Several jobs."""

    jobs: list[JobDocument]


class ModelDocument(TypedDict):
    """A model that paints."""

    name: str
    revision: str
    title: str
    licence: str
    sizes: list[int]
    size_range: Annotated[
        list[int] | None, Field(description="smallest side, largest side and step in pixels; null: only `sizes`")
    ]
    samplers: list[str]
    schedules: list[str]
    defaults: dict[str, Any]
    adapters: list[str]
    image_to_image: Annotated[bool, Field(description="whether it can start from an image")]
    near_starts: Annotated[bool, Field(description="whether the memory policy `near` makes a difference")]
    negative_prompts: Annotated[bool, Field(description="whether it supports negative prompts")]


class ModelsDocument(TypedDict):
    """The available models, the default first."""

    models: list[ModelDocument]


class AuditDocument(TypedDict):
    """The share of wrong answers that audits found, with its Wilson interval at 95 %."""

    answers: int
    wrong: int
    false_hit_rate: Fraction | None
    low: Fraction
    high: Fraction


class StatsDocument(TypedDict):
    """How jobs were answered, and what that cost and saved."""

    jobs: float
    painted: int
    memory: int
    near: int
    joined: int
    hit_rate: Fraction | None
    seconds_saved: float
    watt_hours_spent: float
    watt_hours_saved: float
    audited: AuditDocument
    audited_relaxed: AuditDocument


class HistoryDocument(TypedDict):
    """Counts over time, one value for each of `times`."""

    span: str
    seconds: Annotated[int, Field(description="between two times")]
    times: list[int]
    painted: list[float]
    memory: list[float]
    near: list[float]
    joined: list[float]
    pictures_per_minute: list[float]
    hit_rate: list[float | None]
    batch_size: list[float | None]
    watt_hours_spent: list[float]
    watt_hours_saved: list[float]


class InitImageDocument(TypedDict):
    """The value of a job's `init_image`."""

    init_image: PictureKey


class WebhookSecretDocument(TypedDict):
    """The secret that signs the webhooks of this API key."""

    secret: Annotated[str, Field(pattern=r"^whsec_[A-Za-z0-9+/]+=*$")]


class ProblemDocument(TypedDict):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: NotRequired[Annotated[str, Field(description="the field or parameter that is not valid")]]
    value: NotRequired[str]
    fix: NotRequired[Annotated[str, Field(description="what would be valid")]]
