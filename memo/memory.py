"""Memory: what was painted before, and whether it is right for a new recipe."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from memo.judge.feedback import Label, doubt_factor
from memo.judge.port import Judge, Verdict, find_shares_judge
from memo.judge.relaxed import strip_harmless_extras
from memo.judge.words import same_words
from memo.store import CheckedStore, Store

from .embed import Embedder, Vectors
from .errors import BadKey, Forgotten, Unavailable
from .image_files.thumbnail import thumbnail_object_name, write_thumbnail
from .index import Index, IndexedPicture, Labels, PendingPaintings, SearchResult, to_indexed_picture
from .init_image import init_image_name, init_image_object_name
from .near import DEFAULT_STRENGTHS, Start, Strengths, find_start, may_be_started_from
from .picture import SHARED, NearStart, Picture, key_in, read_png, scope_of
from .points import Neighbour
from .recipe import Recipe, check_choice

log = logging.getLogger(__name__)

POLICIES = ("auto", "relaxed", "near", "exact", "off", "refresh")
CANDIDATES = 5  # the judge decides on this many of the nearest prompts
MIN_COSINE = 0.7  # prompts below it are not judged: of 268 true pairs that the shipped judge accepts, none is below
MIN_SEARCH_COSINE = 0.28  # pictures below it are of no use in a search for a word or two
NEAREST = 20  # points read to find the candidates: many may share one prompt
MAX_SURPLUS = 100  # pictures that only the index knows; if there are more, MEMO_STORE probably names the wrong store
NO_STRENGTHS = "it starts from no picture, because this model always paints from noise"
NO_SHARES = "it starts from no picture, because the judge cannot tell how much of a picture two prompts share"
LINK_SECONDS = 3600  # how long a link into the store works


@dataclass(frozen=True, slots=True)
class Match:
    """A remembered picture that is right for the wanted recipe."""

    picture: Picture
    score: float  # 1.0 for the same recipe or the same words, else the cosine
    how: str  # "same recipe", "same words", "same meaning", or "shows more" under the policy "relaxed"


@dataclass(frozen=True, slots=True)
class Recall:
    """Memory's answer: a picture, or a painting under way to join, or neither; and the reason as a sentence.

    With neither, under the policy "near", there may be a picture to start from.
    """

    match: Match | None
    reason: str
    painting: str | None = None
    start: Start | None = None


@dataclass(frozen=True, slots=True)
class IndexComparison:
    """The number of stored pictures, the keys missing from the index, and the keys that only the index has."""

    stored: int
    missing: frozenset[str]
    surplus: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"the index knows {self.stored - len(self.missing)} of {self.stored} pictures"


Prompts = dict[str, list[Neighbour]]  # the points of each prompt; prompts and points nearest first
UsePoint = Callable[[Neighbour, Recipe, Verdict], Recall | None]  # the recall that a point gives; None if unusable


class Memory:
    """Pictures, kept by key and found by meaning."""

    def __init__(
        self,
        embedder: Embedder,
        index: Index,
        store: Store,
        judge: Judge,
        pending: PendingPaintings | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.embedder, self.index, self.store, self.judge = embedder, index, CheckedStore(store), judge
        self.pending, self.labels = pending, labels

    def recall(
        self,
        recipe: Recipe,
        *,
        policy: str = "auto",
        scope: str = SHARED,
        seen: Collection[str] = (),
        strengths: Strengths = DEFAULT_STRENGTHS,
    ) -> Recall:
        """Look for a picture that is right for a recipe. Raises BadRecipe for an unknown policy.

        If the index is down, the recall is a miss that says so, never an error. `seen` holds the keys of pictures and
        paintings that the user does not want again. `strengths` says how near starts are made; without any, none is.
        """
        check_choice("memo", policy, POLICIES)
        if policy == "off":
            return Recall(None, "memory is switched off for this request")
        if policy == "refresh":
            return Recall(None, "the request asks for a fresh picture")
        try:
            recall = self.look_up(recipe, policy, scope, seen, strengths)
        except Unavailable as error:
            log.warning("recall without memory: %s", error)
            return Recall(None, "memory does not answer at the moment")
        if seen and not (recall.match or recall.painting or recall.start):
            return Recall(None, "every remembered picture that fits was shown already")
        return recall

    def look_up(self, recipe: Recipe, policy: str, scope: str, seen: Collection[str], strengths: Strengths) -> Recall:
        """Look for the same recipe or words, then for the same meaning; the prompt is embedded in the meantime."""
        query = (recipe, scope, seen)
        if recipe.seed is not None:
            reason = "the request names a seed, and this exact recipe was not painted before"
            return self.find_exact(*query) or Recall(None, reason)
        if policy == "exact":
            reason = "the policy 'exact' accepts only the same words, which were not painted before"
            return self.find_exact(*query) or Recall(None, reason)
        vector = self.embedder.begin(recipe.prompt, scope)
        return self.find_exact(*query) or self.find_by_meaning(*query, vector, policy, strengths)

    def find_exact(self, recipe: Recipe, scope: str, seen: Collection[str]) -> Recall | None:
        """The picture of exactly this recipe; for a wish, the newest picture that was painted for the same words."""
        if recipe.seed is None:
            indexed = self.index.newest_for_wish(recipe, scope, seen)
            how, reason = "same words", "it was painted before for the same words and settings"
        else:
            key = key_in(scope, recipe)
            picture = None if key in seen else self.index.get(key)
            indexed = IndexedPicture(picture) if picture else None  # a seed asks for it, even if it was marked wrong
            how, reason = "same recipe", "this exact recipe was painted before"
        if indexed is None or indexed.picture.scope != scope or not self.check_bytes(indexed.picture):
            return None
        return Recall(Match(indexed.picture, 1.0, how), reason) if is_trusted(indexed.wrong_for, recipe) else None

    def find_by_meaning(
        self,
        recipe: Recipe,
        scope: str,
        seen: Collection[str],
        vector: Callable[[], Vectors],
        policy: str,
        strengths: Strengths,
    ) -> Recall:
        """The fitting picture with the judge's highest confidence, else such a painting under way, else a miss."""
        query = (vector(), recipe, scope, NEAREST, seen)
        painted = group_by_prompt(self.index.find_candidates(*query))
        from_pictures = self.judge_prompts(recipe, take(painted, CANDIDATES), self.use_picture)
        if from_pictures and from_pictures.match:
            return from_pictures
        pending = group_by_prompt(self.pending.find_candidates(*query)) if self.pending else {}
        from_paintings = self.judge_prompts(recipe, take(pending, CANDIDATES), use_painting)
        if from_paintings and from_paintings.painting:
            return from_paintings
        richer = None
        if policy == "relaxed":
            richer = self.find_richer(recipe, painted, self.use_picture)
            richer = richer or self.find_richer(recipe, pending, use_painting)
        recall = richer or from_pictures or from_paintings or Recall(None, "nothing like it is remembered")
        return self.add_start(recall, recipe, painted, strengths) if policy == "near" and not recall.match else recall

    def add_start(self, miss: Recall, recipe: Recipe, prompts: Prompts, strengths: Strengths) -> Recall:
        """The miss with a picture to start from, or with the reason why there is none."""
        if not strengths:
            return replace(miss, reason=f"{miss.reason}; {NO_STRENGTHS}")
        allowed = {prompt: list(filter(may_be_started_from, points)) for prompt, points in prompts.items()}
        candidates = take({prompt: points for prompt, points in allowed.items() if points}, CANDIDATES)
        if not candidates:
            return miss
        if (judge := find_shares_judge(self.judge)) is None:
            return replace(miss, reason=f"{miss.reason}; {NO_SHARES}")
        try:
            shares = judge.shares(recipe.prompt, list(candidates), scope_of_points(candidates))
        except Unavailable as error:
            log.warning("recall without a start: %s", error)
            return miss
        start = find_start(recipe, candidates, shares, strengths, self.check_bytes)
        end = start.describe(recipe.steps) if start else "no remembered picture is similar enough to start from"
        return replace(miss, reason=f"{miss.reason}; {end}", start=start)

    def find_richer(self, recipe: Recipe, prompts: Prompts, use: UsePoint) -> Recall | None:
        """The first point whose prompt covers everything in the new one and adds only harmless detail."""
        for prompt, points in take(prompts, 2 * CANDIDATES).items():
            stripped, extras = strip_harmless_extras(prompt, recipe.prompt)
            if extras:
                recall = self.judge_prompts(recipe, {stripped: points}, use) or Recall(None, "")
                reason = f"the remembered prompt {prompt!r} covers the new one and adds: {', '.join(extras)}"
                if recall.painting:
                    return replace(recall, reason=reason)
                if recall.match:
                    return Recall(replace(recall.match, how="shows more"), reason)
        return None

    def judge_prompts(self, recipe: Recipe, prompts: Prompts, use: UsePoint) -> Recall | None:
        """The first usable point of the prompt that fits best, or a miss with the reason; None for no prompts."""
        if not prompts:
            return None
        try:
            verdicts = self.judge(recipe.prompt, list(prompts), scope_of_points(prompts))
        except Unavailable as error:
            log.warning("recall without a judge: %s", error)
            return Recall(None, "the judge does not answer at the moment, so no remembered picture can be used")
        judged, are_lost = zip(verdicts, prompts.values(), strict=True), False
        for verdict, points in sorted(judged, key=lambda pair: -pair[0].confidence):
            if not verdict.fits:
                break
            usable = points if self.is_prompt_trusted(points[0], recipe, verdict) else ()
            if recall := next(filter(None, (use(point, recipe, verdict) for point in usable)), None):
                return recall
            are_lost = are_lost or any(
                is_trusted(point.payload.get("wrong_for", ()), recipe, verdict) for point in usable
            )
        if verdicts[0].fits:
            fault = "are lost or damaged" if are_lost else "were marked as wrong"
            return Recall(None, f"pictures of the remembered prompt {next(iter(prompts))!r} {fault}")
        return Recall(None, verdicts[0].reason)

    def is_prompt_trusted(self, point: Neighbour, recipe: Recipe, verdict: Verdict) -> bool:
        """Whether the judge is confident enough to use a prompt's pictures despite the complaints about them.

        A complaint in other words means that the prompt was misjudged, so that its other pictures would be wrong
        too. A complaint in the prompt's own words concerns one picture only, and does not count here.
        """
        labels = self.labels.of_prompt(point.prompt, point.payload["scope"]) if self.labels else []
        wrong = [label.wanted for label in labels if not label.right and not same_words(label.wanted, point.prompt)]
        return is_trusted(wrong, recipe, verdict)

    def use_picture(self, point: Neighbour, recipe: Recipe, verdict: Verdict) -> Recall | None:
        """The picture of a point, unless its bytes are gone or it was marked wrong."""
        indexed = to_indexed_picture(point.payload)
        if not is_trusted(indexed.wrong_for, recipe, verdict) or not self.check_bytes(indexed.picture):
            return None
        return Recall(Match(indexed.picture, point.cosine, "same meaning"), verdict.reason)

    def painting_started(
        self, painting: str, recipe: Recipe, scope: str = SHARED, near: NearStart | None = None
    ) -> None:
        """Let other requests join a painting; if the index is down, they cannot join it by meaning.

        With a near start, those may join who did not ask for its initial picture.
        """
        if self.pending is None:
            return
        try:
            [vector] = self.embedder([recipe.prompt], scope)
            self.pending.add(painting, recipe, scope, vector, near)
        except Unavailable as error:
            log.warning("painting %s cannot be joined by meaning: %s", painting, error)

    def painting_ended(self, painting: str) -> None:
        """Let no more requests join a painting; if the index is down, its point is removed when it is next found."""
        if self.pending is None:
            return
        try:
            self.pending.remove(painting)
        except Unavailable as error:
            log.warning("painting %s is still listed as under way: %s", painting, error)

    def paintings_under_way(self) -> list[str]:
        """The ids of the paintings that the index lists as under way. Raises Unavailable."""
        return list(self.pending.keys()) if self.pending else []

    def label(self, picture: Picture, wanted: str, *, right: bool, source: str, user: str = "") -> None:
        """Remember whether an answer from memory was right for the wanted prompt. Raises Unavailable.

        It is on the disk then: nothing but the index holds labels, and no comparison could bring one back.
        """
        if self.labels is None:
            raise Unavailable("this memory keeps no labels")
        [vector] = self.embedder([wanted], picture.scope)
        label = Label(
            key=picture.key,
            remembered=picture.recipe.prompt,
            wanted=wanted,
            right=right,
            source=source,
            created=now(),
            scope=picture.scope,
            user=user,
        )
        self.labels.add(label, vector)
        self.index.mark_wrong(picture.key, self.wrong_for(picture))
        self.labels.flush()
        self.index.flush()

    def wrong_for(self, picture: Picture) -> list[str]:
        """The prompts for which a picture was marked wrong. Raises Unavailable."""
        labels = self.labels.of_picture(picture.key, picture.scope) if self.labels else []
        return [label.wanted for label in labels if not label.right]

    def check_bytes(self, picture: Picture) -> bool:
        """Whether the store holds all of a picture; if not, removes its point, unless the whole store is empty."""
        if self.store.exists(object_name(picture.key)):
            return True
        if next(iter(self.store.names()), None) is None:
            log.error("the store is empty, but the index names picture %s: is MEMO_STORE right?", picture.key)
            return False
        log.error("the store lacks picture %s or a part of it: removed it from the index", picture.key)
        self.index.remove(picture.key)
        return False

    def keep(self, picture: Picture, png: bytes) -> bool:
        """Store the bytes durably; False, and no change, if a whole picture with this key is kept already."""
        return self.store.put(object_name(picture.key), png)

    def index_picture(self, picture: Picture, *, new: bool = False) -> None:
        """Make a kept picture findable; doing it twice changes nothing. Raises Unavailable.

        Nobody has seen a `new` picture yet, so its labels need not be read.
        """
        [vector] = self.embedder([picture.recipe.prompt], picture.scope)
        self.index.add(picture, vector, () if new else self.wrong_for(picture))

    def compare_index(self) -> "IndexComparison":
        """Compare the index with the store. Raises Unavailable."""
        indexed = set(self.index.keys())  # read before the store, or a new picture could look like surplus
        stored = {key for name in self.store.names() if (key := key_of_object(name))}
        return IndexComparison(len(stored), frozenset(stored - indexed), frozenset(indexed - stored))

    def remove_surplus(self, comparison: "IndexComparison") -> None:
        """Remove points whose pictures are not in the store. If there are too many, log an error and remove none."""
        most = max(MAX_SURPLUS, comparison.stored // 10) if comparison.stored else 0
        if len(comparison.surplus) > most:
            found = len(comparison.surplus)
            log.error("the index knows %d pictures that the store does not have: is MEMO_STORE right?", found)
            return
        for key in comparison.surplus:
            if not self.has(key):
                self.index.remove(key)

    def prepare_embedding(self, recipe: Recipe, scope: str) -> None:
        """Embed the prompt of a picture that is being painted, so that `index_picture` finds it in the cache."""
        self.embedder([recipe.prompt], scope)

    def has(self, key: str) -> bool:
        """Whether the store holds all bytes of a picture."""
        return self.store.exists(object_name(key))

    def keep_init_image(self, png: bytes, scope: str = SHARED) -> str:
        """Keep an initial picture as `read_init_image` returns it, and return its name."""
        name = init_image_name(png, scope)
        self.store.put(init_image_object_name(name, scope), png)
        return name

    def has_init_image(self, name: str, scope: str = SHARED) -> bool:
        """Whether a scope has an initial picture of this name."""
        return self.store.exists(init_image_object_name(name, scope))

    def init_image(self, name: str, scope: str = SHARED) -> bytes:
        """The PNG bytes of an initial picture; raises Forgotten."""
        try:
            return self.store.get(init_image_object_name(name, scope))
        except Forgotten as error:
            raise Forgotten(f"{name} is lost or damaged: upload the initial picture again") from error

    def picture(self, key: str, scope: str | None = None) -> Picture:
        """The kept picture, read from its own bytes; raises Forgotten, or BadKey for a malformed key.

        If a scope is given, here and below, a picture of another scope is Forgotten, as if it did not exist.
        """
        return read_png(self.image(key, scope))

    def image(self, key: str, scope: str | None = None) -> bytes:
        """The PNG bytes of a picture; raises Forgotten, or BadKey for a malformed key."""
        data = self.store.get(object_name(key))
        if scope is not None and scope_of(data) != scope:
            raise Forgotten(key)
        return data

    def thumbnail(self, key: str, scope: str | None = None) -> bytes:
        """The WebP bytes of a small copy, made on the first request and then kept; raises the same as `image`."""
        name = thumbnail_object_name(key)
        if not self.belongs(key, scope):
            raise Forgotten(key)
        try:
            return self.store.get(name)
        except Forgotten:
            thumbnail = write_thumbnail(self.image(key, scope))
        try:
            self.store.put(name, thumbnail, "image/webp")
            if not self.has(key):  # it was forgotten meanwhile
                self.store.delete(name)
        except Unavailable as error:
            log.warning("cannot keep the thumbnail of %s: %s", key, error)
        return thumbnail

    def link(self, key: str, scope: str | None = None) -> str | None:
        """A URL that serves a shared picture straight from the store; None if the store cannot do that.

        A private picture has none: its file names the scope, which the web process removes before it sends the file.
        """
        try:
            allowed = scope is None or (scope == SHARED and self.belongs(key, scope))
            return self.store.link(object_name(key), LINK_SECONDS) if allowed else None
        except Unavailable:
            return None

    def newest(
        self, *, scope: str = SHARED, limit: int, before: float | None = None, **filters: Any
    ) -> list[Picture]:
        """Pictures created before a time, newest first; `filters` as for `Index.newest`. Raises Unavailable."""
        return self.index.newest(scope, limit, before, **filters)

    def search(self, words: str, *, scope: str = SHARED, limit: int, model: str = "") -> list[SearchResult]:
        """Pictures whose prompts are near the words in meaning, nearest first. Raises Unavailable."""
        [vector] = self.embedder([words], scope)
        results = self.index.search(vector, scope, limit, model=model)
        return [result for result in results if result.cosine >= MIN_SEARCH_COSINE]

    def forget(self, key: str, scope: str | None = None) -> None:
        """Remove a picture, its thumbnail, and what no other picture needs; raises Forgotten.

        Its initial picture goes, too, and so do the labels and the embedding of its prompt. The picture's own file is
        deleted last, so that a removal that fails halfway can be repeated.
        """
        if not self.belongs(key, scope):
            raise Forgotten(key)
        if picture := self.find_picture(key):
            self.forget_words(picture)
            if picture.recipe.init_image:
                self.release_init_image(picture.recipe.init_image, picture.scope, [key])
        self.store.delete(thumbnail_object_name(key))
        self.index.remove(key)
        self.store.delete(object_name(key))
        self.index.remove(key)  # again, because a worker may have indexed it before its file was deleted
        if not any(map(key_of_object, self.store.names())):
            self.index.flush()  # later comparisons remove nothing while the store is empty

    def find_picture(self, key: str) -> Picture | None:
        """The picture from the index, or else from its bytes; None if neither has it whole. Raises Unavailable."""
        try:
            return self.index.get(key) or self.picture(key)
        except (Forgotten, BadKey):
            return None

    def forget_words(self, picture: Picture) -> None:
        """Remove labels and embedding of a picture's prompt, unless the scope has another picture of this prompt."""
        prompt, scope = picture.recipe.prompt, picture.scope
        [vector] = self.embedder([prompt], scope)
        nearest = [result.picture for result in self.index.search(vector, scope, NEAREST)]
        if any(other.recipe.prompt == prompt and other.key != picture.key for other in nearest):
            return
        if self.labels:
            for label in self.labels.of_prompt(prompt, scope):
                self.labels.remove(label.id)
            self.labels.flush()
        self.embedder.forget(prompt, scope)

    def release_init_image(self, name: str, scope: str = SHARED, ignored: Collection[str] = ()) -> None:
        """Remove an initial picture, unless a picture or painting uses it whose key is not in `ignored`."""
        collections = [points for points in (self.pending, self.index) if points]
        if not any(points.count_by_init_image(name, scope, ignored) for points in collections):
            self.store.delete(init_image_object_name(name, scope))

    def belongs(self, key: str, scope: str | None) -> bool:
        """Whether the index or the store has a picture with this key, in this scope if one is given.

        Raises Unavailable.
        """
        name = object_name(key)
        if picture := self.index.get(key):
            return scope in (None, picture.scope)
        if scope is None:
            return self.has(key)
        try:
            return scope_of(self.store.get(name)) == scope
        except Forgotten:
            return False


def use_painting(point: Neighbour, _recipe: Recipe, verdict: Verdict) -> Recall:
    """The recall that joins the painting of a point."""
    return Recall(None, verdict.reason, point.key)


def group_by_prompt(points: Iterable[Neighbour]) -> Prompts:
    """The points that are near enough to be judged, by prompt, nearest first."""
    prompts: Prompts = {}
    for point in points:
        if point.cosine >= MIN_COSINE:
            prompts.setdefault(point.prompt, []).append(point)
    return prompts


def scope_of_points(prompts: Prompts) -> str:
    """The scope of all these points."""
    return str(next(iter(prompts.values()))[0].payload["scope"])


def take(prompts: Prompts, count: int) -> Prompts:
    """The first `count` prompts with their points."""
    return dict(islice(prompts.items(), count))


def is_trusted(wrong_for: Sequence[str], recipe: Recipe, verdict: Verdict | None = None) -> bool:
    """Whether a picture may answer a recipe, although it was marked wrong for some prompts.

    It may not if one of them has the same words as the recipe. Otherwise each raises the confidence that the judge
    needs.
    """
    factor = doubt_factor(wrong_for, recipe.prompt)
    if factor is None:
        return False
    return verdict is None or factor == 1 or verdict.confidence >= 1 - (1 - verdict.threshold) * factor


def key_of_object(name: str) -> str | None:
    """The key of the picture that the store keeps under a name; None for a thumbnail and other objects."""
    key = name.rpartition("/")[2].removesuffix(".png")
    try:
        return key if object_name(key) == name else None
    except BadKey:
        return None


def object_name(key: str) -> str:
    """The name of a picture in the store; raises BadKey unless the key is 32 hex digits."""
    if len(key) != 32 or not set(key) <= set("0123456789abcdef"):
        raise BadKey(f"a picture's key is 32 hex digits, not {key[:40]!r}")
    return f"{key[:2]}/{key}.png"


def now() -> float:
    """Seconds since 1970, to the microsecond: exact in JSON, and fine enough to serve as a cursor for paging."""
    return round(time.time(), 6)
