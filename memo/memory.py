"""What has been painted before, and whether it is right for a new recipe."""

import logging
import time
from dataclasses import dataclass

from .embed import Embedder
from .errors import BadKey, Forgotten, Unavailable
from .index import Index, Labels, Pending
from .judge import Judge
from .labels import Label, doubt
from .picture import Picture, read_png
from .recipe import Recipe, check_choice
from .store import Store
from .verdict import Verdict

log = logging.getLogger(__name__)

POLICIES = ("auto", "off", "exact", "refresh")
SHARED = "shared"
CANDIDATES = 5  # how many near prompts the judge is asked about
LINK_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Match:
    """A remembered picture that is right for the recipe asked for."""

    picture: Picture
    score: float  # 1.0 for the same recipe or the same words, else the cosine
    how: str  # "same recipe", "same words" or "same meaning"


@dataclass(frozen=True, slots=True)
class Recall:
    """The answer of memory: a match or none, the reason in words, and a painting under way that means the same."""

    match: Match | None
    reason: str
    painting: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A near prompt with its picture, or with the painting that is under way for it."""

    cosine: float
    prompt: str
    picture: Picture | None = None
    painting: str | None = None


class Memory:
    """Pictures kept by key and found by meaning."""

    def __init__(
        self,
        embedder: Embedder,
        index: Index,
        store: Store,
        judge: Judge,
        pending: Pending | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.embedder, self.index, self.store, self.judge = embedder, index, store, judge
        self.pending, self.labels = pending, labels

    def recall(self, recipe: Recipe, *, policy: str = "auto", scope: str = SHARED) -> Recall:
        """Look for a right picture; the index being down is a miss that says so, never an error."""
        check_choice("memo", policy, POLICIES)
        if policy == "off":
            return Recall(None, "memory is switched off for this request")
        if policy == "refresh":
            return Recall(None, "a fresh picture was asked for")
        try:
            return self.exact(recipe, scope) or self.by_meaning(recipe, policy, scope)
        except Unavailable as error:
            log.warning("recall without memory: %s", error)
            return Recall(None, "memory does not answer at the moment")

    def exact(self, recipe: Recipe, scope: str) -> Recall | None:
        """The very recipe, or for a wish the newest picture that was painted for the same words."""
        if recipe.seed is None:
            picture = self.index.granted(recipe, scope)
            how, reason = "same words", "it was painted before for the same words and settings"
        else:
            picture = self.index.get(recipe.key)
            how, reason = "same recipe", "exactly this recipe was painted before"
        if picture is None or picture.scope != scope or not self.kept(picture):
            return None
        if recipe.seed is None and not self.trusted(picture, recipe, None):
            return None
        return Recall(Match(picture, 1.0, how), reason)

    def by_meaning(self, recipe: Recipe, policy: str, scope: str) -> Recall:
        """The one of the nearest prompts that the judge is surest of, painted or under way, if it is sure enough."""
        if recipe.seed is not None:
            return Recall(None, "a seed was given, and this exact recipe was not painted before")
        if policy == "exact":
            return Recall(None, "only the exact words were to be looked up, and they were not painted before")
        near = self.near(recipe, scope)
        return self.judged(recipe, near) if near else Recall(None, "nothing like it is remembered")

    def judged(self, recipe: Recipe, near: list["Candidate"]) -> Recall:
        """What the judge makes of the candidates."""
        try:
            verdicts = self.judge(recipe.prompt, [candidate.prompt for candidate in near])
        except Unavailable as error:
            log.warning("recall without a judge: %s", error)
            return Recall(None, "the judge does not answer at the moment, and unsure means no")
        for verdict, candidate in sorted(zip(verdicts, near, strict=True), key=lambda pair: -pair[0].sure):
            if not verdict.fits:
                break
            if candidate.picture is None:
                return Recall(None, verdict.reason, candidate.painting)
            if self.trusted(candidate.picture, recipe, verdict) and self.kept(candidate.picture):
                return Recall(Match(candidate.picture, candidate.cosine, "same meaning"), verdict.reason)
        return Recall(None, verdicts[0].reason)

    def near(self, recipe: Recipe, scope: str) -> list["Candidate"]:
        """The nearest few prompts, painted or under way, best first."""
        [vector] = self.embedder([recipe.prompt])
        found = [
            Candidate(cosine, picture.recipe.prompt, picture=picture)
            for cosine, picture in self.index.nearest(vector, recipe, scope, CANDIDATES)
        ]
        if self.pending is not None:
            found += [
                Candidate(cosine, prompt, painting=painting)
                for cosine, painting, prompt in self.pending.nearest(vector, recipe, scope, CANDIDATES)
            ]
        return sorted(found, key=lambda candidate: -candidate.cosine)[:CANDIDATES]

    def begun(self, painting: str, recipe: Recipe, scope: str = SHARED) -> None:
        """Let others find a painting under way; the index being down only means that nobody joins."""
        if self.pending is None:
            return
        try:
            [vector] = self.embedder([recipe.prompt])
            self.pending.add(painting, recipe, scope, vector)
        except Unavailable as error:
            log.warning("painting %s cannot be joined by meaning: %s", painting, error)

    def ended(self, painting: str) -> None:
        """Nobody can join this painting any more; what the index keeps of it while down is struck off when found."""
        if self.pending is None:
            return
        try:
            self.pending.remove(painting)
        except Unavailable as error:
            log.warning("painting %s is still among those under way: %s", painting, error)

    def trusted(self, picture: Picture, recipe: Recipe, verdict: Verdict | None) -> bool:
        """Whether nobody called this picture wrong for these words, and complaints leave the judge sure enough."""
        left = doubt(self.labels.of(picture.key, picture.scope), recipe.prompt) if self.labels else 1.0
        if left is None:
            return False
        return verdict is None or left == 1 or verdict.sure >= 1 - (1 - verdict.needed) * left

    def label(self, picture: Picture, wanted: str, *, right: bool, source: str) -> None:
        """Remember what someone said of an answer from memory. Raises Unavailable."""
        if self.labels is None:
            raise Unavailable("this memory keeps no labels")
        [vector] = self.embedder([wanted])
        said = {"key": picture.key, "remembered": picture.recipe.prompt, "wanted": wanted, "scope": picture.scope}
        self.labels.add(Label(**said, right=right, source=source, created=now()), vector)

    def kept(self, picture: Picture) -> bool:
        """Whether the bytes are really there; a point without bytes is removed."""
        if self.store.exists(object_name(picture.key)):
            return True
        log.error("the index names %s, which the store does not hold; removed from the index", picture.key)
        self.index.remove(picture.key)
        return False

    def keep(self, picture: Picture, png: bytes) -> bool:
        """Store the bytes durably; False when a picture of this key is kept already, which stays."""
        return self.store.put(object_name(picture.key), png)

    def index_picture(self, picture: Picture) -> None:
        """Make a kept picture findable; doing it twice changes nothing. Raises Unavailable."""
        [vector] = self.embedder([picture.recipe.prompt])
        self.index.add(picture, vector)

    def has(self, key: str) -> bool:
        """Whether the bytes of this picture are kept."""
        return self.store.exists(object_name(key))

    def picture(self, key: str) -> Picture:
        """The kept picture, read from its own bytes; raises Forgotten, or BadKey for what is no key."""
        return read_png(self.image(key))

    def image(self, key: str) -> bytes:
        """PNG bytes; raises Forgotten, or BadKey for what is no key."""
        return self.store.get(object_name(key))

    def link(self, key: str) -> str | None:
        """A URL that serves the bytes from the store itself, when the store can."""
        return self.store.link(object_name(key), LINK_SECONDS)

    def newest(self, *, scope: str = SHARED, limit: int, before: float | None = None) -> list[Picture]:
        """Pictures created before a time, newest first. Raises Unavailable."""
        return self.index.newest(scope, limit, before)

    def forget(self, key: str) -> None:
        """Remove point and bytes; raises Forgotten when there is neither."""
        if not self.store.exists(object_name(key)) and self.index.get(key) is None:
            raise Forgotten(key)
        self.index.remove(key)
        self.store.delete(object_name(key))


def object_name(key: str) -> str:
    """The store's name for a picture; raises BadKey."""
    if len(key) != 32 or not set(key) <= set("0123456789abcdef"):
        raise BadKey(f"a picture's key is 32 hex digits, not {key[:40]!r}")
    return f"{key[:2]}/{key}.png"


def now() -> float:
    """Seconds since 1970, to the microsecond: exact as JSON, and as a cursor no two pictures share."""
    return round(time.time(), 6)
