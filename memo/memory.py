"""What has been painted before, and whether it is right for a new recipe."""

import logging
import time
from dataclasses import dataclass

from .embed import Embedder
from .errors import BadKey, Forgotten, Unavailable
from .index import Index
from .judge import Judge
from .picture import Picture, read_png
from .recipe import Recipe, check_choice
from .store import Store

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
    """The answer of memory: a match or none, and the reason in words."""

    match: Match | None
    reason: str


class Memory:
    """Pictures kept by key and found by meaning."""

    def __init__(self, embedder: Embedder, index: Index, store: Store, judge: Judge) -> None:
        self.embedder, self.index, self.store, self.judge = embedder, index, store, judge

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
        return Recall(Match(picture, 1.0, how), reason)

    def by_meaning(self, recipe: Recipe, policy: str, scope: str) -> Recall:
        """The first of the nearest prompts that the judge takes for the same."""
        if recipe.seed is not None:
            return Recall(None, "a seed was given, and this exact recipe was not painted before")
        if policy == "exact":
            return Recall(None, "only the exact words were to be looked up, and they were not painted before")
        [vector] = self.embedder([recipe.prompt])
        refusals = []
        for cosine, picture in self.index.nearest(vector, recipe, scope, CANDIDATES):
            verdict = self.judge(picture.recipe.prompt, recipe.prompt, cosine)
            if verdict.fits and self.kept(picture):
                return Recall(Match(picture, cosine, "same meaning"), verdict.reason)
            refusals.append(verdict.reason)
        return Recall(None, refusals[0] if refusals else "nothing like it is remembered")

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
