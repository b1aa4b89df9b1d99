"""What has been painted before, and whether it is right for a new recipe."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from memo.judge.feedback import Label, doubt_factor
from memo.judge.port import Judge, Verdict
from memo.judge.relaxed import strip_harmless_extras
from memo.judge.words import same_words
from memo.store import Store

from .embed import Embedder, Vectors
from .errors import BadKey, Forgotten, Unavailable
from .index import Index, IndexedPicture, Labels, Neighbour, Pending
from .init_image import init_image_name, init_image_object, read_init_image
from .picture import SHARED, Picture, key_in, read_png, scope_of
from .recipe import Recipe, check_choice
from .thumbnail import thumbnail_object, write_thumbnail

log = logging.getLogger(__name__)

POLICIES = ("auto", "relaxed", "exact", "off", "refresh")
CANDIDATES = 5  # how many near prompts the judge is asked about
FAR = 0.5  # cosine below which no judge is asked: of 1,759 checked pairs that mean the same none is below 0.57
LIKE = 0.28  # cosine below which a picture is no answer to a search of a word or two
NEAREST = 20  # how many pictures and paintings are looked at for them: a prompt may have many
LINK_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Match:
    """A remembered picture that is right for the recipe asked for."""

    picture: Picture
    score: float  # 1.0 for the same recipe or the same words, else the cosine
    how: str  # "same recipe", "same words", "same meaning", or "shows more" under the policy "relaxed"


@dataclass(frozen=True, slots=True)
class Recall:
    """The answer of memory: a match or none, the reason in words, and a painting under way that means the same."""

    match: Match | None
    reason: str
    painting: str | None = None


Pools = dict[str, list[Neighbour]]  # what there is of each prompt, best first
Give = Callable[[Neighbour, Recipe, Verdict], Recall | None]


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

    def recall(
        self, recipe: Recipe, *, policy: str = "auto", scope: str = SHARED, seen: Collection[str] = ()
    ) -> Recall:
        """Look for a right picture; the index being down is a miss that says so, never an error.

        `seen` are keys of pictures, and paintings under way, that are not wanted again.
        """
        check_choice("memo", policy, POLICIES)
        if policy == "off":
            return Recall(None, "memory is switched off for this request")
        if policy == "refresh":
            return Recall(None, "a fresh picture was asked for")
        try:
            found = self.look_up(recipe, policy, scope, seen)
        except Unavailable as error:
            log.warning("recall without memory: %s", error)
            return Recall(None, "memory does not answer at the moment")
        if seen and not found.match and not found.painting:
            return Recall(None, "every remembered picture that fits was shown already")
        return found

    def look_up(self, recipe: Recipe, policy: str, scope: str, seen: Collection[str]) -> Recall:
        """The very recipe or the same words, else what means the same; meanwhile the prompt is read."""
        asked = (recipe, scope, seen)
        if recipe.seed is not None:
            reason = "a seed was given, and this exact recipe was not painted before"
            return self.exact(*asked) or Recall(None, reason)
        if policy == "exact":
            reason = "only the exact words were to be looked up, and they were not painted before"
            return self.exact(*asked) or Recall(None, reason)
        vector = self.embedder.begin(recipe.prompt)
        return self.exact(*asked) or self.by_meaning(*asked, policy, vector)

    def exact(self, recipe: Recipe, scope: str, seen: Collection[str]) -> Recall | None:
        """The very recipe, or for a wish the newest picture that was painted for the same words."""
        if recipe.seed is None:
            found = self.index.granted(recipe, scope, seen)
            how, reason = "same words", "it was painted before for the same words and settings"
        else:
            key = key_in(scope, recipe)
            picture = None if key in seen else self.index.get(key)
            found = IndexedPicture(picture) if picture else None  # whoever gives a seed wants that very picture
            how, reason = "same recipe", "exactly this recipe was painted before"
        if found is None or found.picture.scope != scope or not self.kept(found.picture):
            return None
        return Recall(Match(found.picture, 1.0, how), reason) if trusted(found.wrong, recipe, None) else None

    def by_meaning(
        self, recipe: Recipe, scope: str, seen: Collection[str], policy: str, vector: Callable[[], Vectors]
    ) -> Recall:
        """Of the nearest prompts the one that the judge is surest of, if sure enough: a picture, else a painting."""
        looked_up = (vector(), recipe, scope, NEAREST, seen)
        painted = pools(self.index.nearest(*looked_up))
        found = self.judged(recipe, first(painted, CANDIDATES), self.give)
        if found and found.match:
            return found
        paintings = pools(self.pending.nearest(*looked_up)) if self.pending else {}
        joined = self.judged(recipe, first(paintings, CANDIDATES), join)
        if joined and joined.painting:
            return joined
        more = None
        if policy == "relaxed":
            more = self.showing_more(recipe, painted, self.give) or self.showing_more(recipe, paintings, join)
        return more or found or joined or Recall(None, "nothing like it is remembered")

    def showing_more(self, recipe: Recipe, near: Pools, give: Give) -> Recall | None:
        """The first whose prompt asks for all that is asked for, and besides for nothing that would surprise."""
        for prompt, pool in first(near, 2 * CANDIDATES).items():
            less, extras = strip_harmless_extras(prompt, recipe.prompt)
            if extras:
                found = self.judged(recipe, {less: pool}, give) or Recall(None, "")
                reason = f"{prompt!r} shows all that is asked for, and besides: {', '.join(extras)}"
                if found.painting:
                    return replace(found, reason=reason)
                if found.match:
                    return Recall(replace(found.match, how="shows more"), reason)
        return None

    def judged(self, recipe: Recipe, near: Pools, give: Give) -> Recall | None:
        """What the judge makes of the prompts, of one that fits the first that may be given; None for no prompts."""
        if not near:
            return None
        try:
            verdicts = self.judge(recipe.prompt, list(near))
        except Unavailable as error:
            log.warning("recall without a judge: %s", error)
            return Recall(None, "the judge does not answer at the moment, and unsure means no")
        for verdict, pool in sorted(zip(verdicts, near.values(), strict=True), key=lambda pair: -pair[0].confidence):
            if not verdict.fits:
                break
            trusted_ones = () if self.mistaken(pool[0], recipe, verdict) else pool
            if given := next(filter(None, (give(one, recipe, verdict) for one in trusted_ones)), None):
                return given
        if verdicts[0].fits:
            return Recall(None, f"what is remembered of {next(iter(near))!r} was called wrong")
        return Recall(None, verdicts[0].reason)

    def mistaken(self, near: Neighbour, recipe: Recipe, verdict: Verdict) -> bool:
        """Whether a picture of this prompt was called wrong for these words, or too many for a judge that is so sure.

        It was the prompt that was taken for another: no other picture of it would do. Whoever asked in its very words
        meant that picture alone.
        """
        said = self.labels.about(near.prompt, near.payload["scope"]) if self.labels else []
        wrong = [one.wanted for one in said if not one.right and not same_words(one.wanted, near.prompt)]
        return not trusted(wrong, recipe, verdict)

    def give(self, near: Neighbour, recipe: Recipe, verdict: Verdict) -> Recall | None:
        """The picture, unless it is gone or was called wrong."""
        found = near.found
        if not trusted(found.wrong, recipe, verdict) or not self.kept(found.picture):
            return None
        return Recall(Match(found.picture, near.cosine, "same meaning"), verdict.reason)

    def painting_started(self, painting: str, recipe: Recipe, scope: str = SHARED) -> None:
        """Let others find a painting under way; the index being down only means that nobody joins."""
        if self.pending is None:
            return
        try:
            [vector] = self.embedder([recipe.prompt])
            self.pending.add(painting, recipe, scope, vector)
        except Unavailable as error:
            log.warning("painting %s cannot be joined by meaning: %s", painting, error)

    def painting_ended(self, painting: str) -> None:
        """Nobody can join this painting any more; what the index keeps of it while down is struck off when found."""
        if self.pending is None:
            return
        try:
            self.pending.remove(painting)
        except Unavailable as error:
            log.warning("painting %s is still among those under way: %s", painting, error)

    def paintings_under_way(self) -> list[str]:
        """The paintings that can be joined, as far as is known here. Raises Unavailable."""
        return list(self.pending.keys()) if self.pending else []

    def label(self, picture: Picture, wanted: str, *, right: bool, source: str) -> None:
        """Remember what someone said of an answer from memory. Raises Unavailable."""
        if self.labels is None:
            raise Unavailable("this memory keeps no labels")
        [vector] = self.embedder([wanted])
        said = {"key": picture.key, "remembered": picture.recipe.prompt, "wanted": wanted, "scope": picture.scope}
        self.labels.add(Label(**said, right=right, source=source, created=now()), vector)
        self.index.accuse(picture.key, self.wrong(picture))

    def wrong(self, picture: Picture) -> list[str]:
        """The prompts that this picture was called wrong for. Raises Unavailable."""
        labels = self.labels.of(picture.key, picture.scope) if self.labels else []
        return [label.wanted for label in labels if not label.right]

    def kept(self, picture: Picture) -> bool:
        """Whether the bytes are there; a point without bytes is removed, unless the store has lost them all."""
        if self.store.exists(object_name(picture.key)):
            return True
        if next(iter(self.store.names()), None) is None:
            log.error("the store holds nothing, although the index names %s: is it the right one?", picture.key)
            return False
        log.error("the index names %s, which the store does not hold; removed from the index", picture.key)
        self.index.remove(picture.key)
        return False

    def keep(self, picture: Picture, png: bytes) -> bool:
        """Store the bytes durably; False when a picture of this key is kept already, which stays."""
        return self.store.put(object_name(picture.key), png)

    def index_picture(self, picture: Picture, *, new: bool = False) -> None:
        """Make a kept picture findable; doing it twice changes nothing. Raises Unavailable.

        A `new` one was never given to anybody, so that nobody can have called it wrong.
        """
        [vector] = self.embedder([picture.recipe.prompt])
        self.index.add(picture, vector, () if new else self.wrong(picture))

    def prepare_embedding(self, recipe: Recipe) -> None:
        """A picture of this recipe will come: read its prompt now, so that `index_picture` need not wait."""
        self.embedder([recipe.prompt])

    def has(self, key: str) -> bool:
        """Whether the bytes of this picture are kept."""
        return self.store.exists(object_name(key))

    def keep_init_image(self, data: bytes, scope: str = SHARED) -> str:
        """Keep a picture to start from; answers with its name. Raises BadRecipe for what is no picture."""
        png = read_init_image(data)
        name = init_image_name(png, scope)
        self.store.put(init_image_object(name, scope), png)
        return name

    def has_init_image(self, name: str, scope: str = SHARED) -> bool:
        """Whether this scope has a picture of this name to start from."""
        return self.store.exists(init_image_object(name, scope))

    def init_image(self, name: str, scope: str = SHARED) -> bytes:
        """Its PNG; raises Forgotten."""
        return self.store.get(init_image_object(name, scope))

    def picture(self, key: str, scope: str | None = None) -> Picture:
        """The kept picture, read from its own bytes; raises Forgotten, or BadKey for what is no key.

        With a scope, here and below, another scope's picture is Forgotten as one that never was.
        """
        return read_png(self.image(key, scope))

    def image(self, key: str, scope: str | None = None) -> bytes:
        """PNG bytes; raises Forgotten, or BadKey for what is no key."""
        data = self.store.get(object_name(key))
        if scope is not None and scope_of(data) != scope:
            raise Forgotten(key)
        return data

    def thumbnail(self, key: str, scope: str | None = None) -> bytes:
        """WebP bytes of a small copy, which is kept beside the picture once it was asked for; raises as `image`."""
        name = thumbnail_object(key)
        if not self.belongs(key, scope):
            raise Forgotten(key)
        try:
            return self.store.get(name)
        except Forgotten:
            made = write_thumbnail(self.image(key, scope))
        try:
            self.store.put(name, made, "image/webp")
            if not self.has(key):  # forgotten meanwhile
                self.store.delete(name)
        except Unavailable as error:
            log.warning("the thumbnail of %s is not kept: %s", key, error)
        return made

    def link(self, key: str, scope: str | None = None) -> str | None:
        """A URL that serves the bytes from the store itself, when the store can and the picture is everybody's.

        For others the file must pass through whoever hands it out, since it tells whose memory it belongs to.
        """
        try:
            given = scope is None or (scope == SHARED and self.belongs(key, scope))
        except Unavailable:
            given = False
        return self.store.link(object_name(key), LINK_SECONDS) if given else None

    def newest(self, *, scope: str = SHARED, limit: int, before: float | None = None, **only: Any) -> list[Picture]:
        """Pictures created before a time, newest first; `only` as Index.newest has it. Raises Unavailable."""
        return self.index.newest(scope, limit, before, **only)

    def search(self, words: str, *, scope: str = SHARED, limit: int, model: str = "") -> list[Neighbour]:
        """Pictures that show something like the words, nearest first. Raises Unavailable."""
        [vector] = self.embedder([words])
        near = self.index.search(vector, scope, limit, model=model)
        return [one for one in near if one.cosine >= LIKE]

    def forget(self, key: str, scope: str | None = None) -> None:
        """Remove point and bytes, and what it alone was started from; raises Forgotten when there is neither."""
        if not self.belongs(key, scope):
            raise Forgotten(key)
        self.forget_init_image(key)
        self.index.remove(key)
        self.store.delete(object_name(key))
        self.store.delete(thumbnail_object(key))

    def forget_init_image(self, key: str) -> None:
        """Remove what a picture was started from, unless another one was or is to be."""
        try:
            gone = self.index.get(key) or self.picture(key)
        except (Forgotten, BadKey):
            return
        if gone.recipe.init_image:
            self.release_init_image(gone.recipe.init_image, gone.scope, [key])

    def release_init_image(self, start: str, scope: str = SHARED, but: Collection[str] = ()) -> None:
        """Remove a picture to start from, unless one was or is to be started from it; these do not count."""
        others = [points for points in (self.pending, self.index) if points]
        if not any(points.count_started_from(start, scope, but) for points in others):
            self.store.delete(init_image_object(start, scope))

    def belongs(self, key: str, scope: str | None) -> bool:
        """Whether there are bytes or a point of this key, in this scope if one is given. Raises Unavailable."""
        name = object_name(key)
        if found := self.index.get(key):
            return scope in (None, found.scope)
        if scope is None:
            return self.has(key)
        try:
            return scope_of(self.store.get(name)) == scope
        except Forgotten:
            return False


def join(near: Neighbour, _recipe: Recipe, verdict: Verdict) -> Recall:
    """The painting under way."""
    return Recall(None, verdict.reason, near.key)


def pools(found: Iterable[Neighbour]) -> Pools:
    """The nearest prompts, best first, and what there is of each."""
    by_prompt: Pools = {}
    for one in found:
        if one.cosine >= FAR:
            by_prompt.setdefault(one.prompt, []).append(one)
    return by_prompt


def first(near: Pools, many: int) -> Pools:
    """So many of the nearest prompts."""
    return dict(islice(near.items(), many))


def trusted(wrong: Sequence[str], recipe: Recipe, verdict: Verdict | None) -> bool:
    """Whether nobody called a picture wrong for these words, and complaints leave the judge sure enough."""
    left = doubt_factor(wrong, recipe.prompt)
    if left is None:
        return False
    return verdict is None or left == 1 or verdict.confidence >= 1 - (1 - verdict.threshold) * left


def object_name(key: str) -> str:
    """The store's name for a picture; raises BadKey."""
    if len(key) != 32 or not set(key) <= set("0123456789abcdef"):
        raise BadKey(f"a picture's key is 32 hex digits, not {key[:40]!r}")
    return f"{key[:2]}/{key}.png"


def now() -> float:
    """Seconds since 1970, to the microsecond: exact as JSON, and as a cursor no two pictures share."""
    return round(time.time(), 6)
