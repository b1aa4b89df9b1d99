"""One painting from claim to kept picture. Knows the board and the memory; neither Celery nor torch.

Safe to run twice: a claim is held by one worker at a time, a picture's bytes are written once, and a lost claim
changes nothing any more.
"""

import base64
import io
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from PIL import Image

from jobs.job import Claim
from jobs.store.job_store import JobStore
from memo import MemoError, Memory, Picture, Recipe, Unavailable, now, write_png
from worker.painters.port import Painter, Progress, TooLarge, Turn

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
PREVIEW_SECONDS = 0.7  # between two previews of a painting
STORE_WAIT = 0.5, 5.0  # seconds before the store is asked again: the first time, doubled each time, and at most
FAULTY = 3  # different paintings with unexpected faults in a row: then it is the worker that is broken

Answer = TypeVar("Answer")


class Stopped(Exception):
    """The painting ends here without a picture: "cancel", "lost" or "hand back"."""


class PaintingRunner:
    """Paints claimed paintings with the painters it is given."""

    def __init__(self, job_store: JobStore, memory: Memory, painters: Callable[[Recipe], Painter]) -> None:
        self.job_store, self.memory, self.painters = job_store, memory, painters
        self.claims: dict[str, Claim] = {}
        self.last_sign: dict[str, float] = {}  # of these, when a step was taken or something said last; monotonic
        self.closing = threading.Event()
        self.ended: Counter[str] = Counter()  # paintings by how they ended here
        self.spent = 0.0  # joules
        self.painting: Callable[[], dict[str, dict[str, float]]] = dict  # what each painter does now
        self.models: Sequence[str] = ()  # what this worker serves beside what it is rung for
        self.unserved: list[str] = []  # models that we were rung for, and did not paint for since we close
        self.faulty: set[str] = set()  # paintings with unexpected faults since the last that was done
        self.give_up: Callable[[], None] = self.closing.set  # ends this worker; another is started in its place

    def answer(self, model: str) -> str:
        """A ring: paint for our models, in turn, until nothing waits. Others who were rung find nothing then."""
        words: list[str] = []
        while not self.closing.is_set():
            if (word := self.paint(model, *self.models)) == "nothing":
                break
            words.append(word)
        else:
            self.unserved.append(model)
        return ", ".join(words)

    def paint(self, *models: str) -> str:
        """Claim what is next of these models and paint it; answers in a word what became of it (for the log)."""
        try:
            claim = self.job_store.claims.claim(*models)
        except Unavailable as error:
            log.warning("rung for %s in vain, another will be: %s", models[0], error)
            return "nothing"
        if claim is None:
            return "nothing"
        word = self.paint_claimed(claim)
        self.ended[word] += 1
        return word

    def state(self) -> dict[str, object]:
        """What this worker does and has done, for those who watch over it."""
        told = {"busy": len(self.claims), "ended": dict(self.ended), "joules": round(self.spent, 3)}
        return {**told, "painters": self.painting()}

    def paint_claimed(self, claim: Claim) -> str:
        """Paint; whatever goes wrong is told where it is waited for."""
        painting = claim.painting
        log.info("painting %s: %r, try %d", painting, claim.recipe.prompt, claim.attempt)
        self.claims[painting], self.last_sign[painting] = claim, time.monotonic()
        try:
            return self.attempt(claim)
        except Unavailable as error:
            log.warning("painting %s is left to its lease, then tried again: %s", painting, error)
            return "left"
        finally:
            self.claims.pop(painting, None)
            self.last_sign.pop(painting, None)

    def attempt(self, claim: Claim) -> str:
        """Paint, or settle what comes of it; raises Unavailable while the queue does not answer."""
        if claim.attempt > MOST_ATTEMPTS:
            said = f", and one of them said: {claim.fault}" if claim.fault else ""
            return self.fail(claim, f"its worker died {MOST_ATTEMPTS} times while painting it{said}")
        try:
            return self.work(claim)
        except Stopped as stop:
            return self.stop(claim, str(stop))
        except Unavailable:
            raise
        except TooLarge as error:
            return self.try_later(claim, str(error))
        except MemoError as error:
            return self.fail(claim, str(error))
        except Exception as error:  # whatever it is, it is tried again, then told to whoever waits
            log.exception("painting %s failed", claim.painting)
            self.suspect(claim.painting)
            return self.try_later(claim, f"{type(error).__name__}: {error}")

    def try_later(self, claim: Claim, error: str) -> str:
        """Leave it to its lease, so that it is tried again a little later, unless this was the last try."""
        if claim.attempt >= MOST_ATTEMPTS:
            return self.fail(claim, error)
        log.warning("painting %s is left to its lease, try %d failed: %s", claim.painting, claim.attempt, error)
        self.job_store.progress.report_message(
            claim, f"soon tried again, since try {claim.attempt} failed: {error}", fault=error
        )
        return "left"

    def suspect(self, painting: str) -> None:
        """Give up if nothing succeeds here any more, as after a fault of the GPU: others would do better."""
        self.faulty.add(painting)
        if len(self.faulty) >= FAULTY:
            log.critical("%d paintings failed here in a row: this worker ends, to be started anew", FAULTY)
            self.give_up()

    def work(self, claim: Claim) -> str:
        """Bytes are durable before the index names them, and the job is done after that."""
        key = claim.key
        there = self.stored(claim, lambda: self.memory.has(key))  # by a worker that died before it said so
        new = None if there else self.paint_and_keep(claim)
        picture = new or self.stored(claim, lambda: self.memory.picture(key))
        try:
            self.memory.index_picture(picture, new=new is not None)
        except Unavailable as error:
            log.warning("picture %s is kept and will be indexed later: %s", key, error)
            self.job_store.backlog.add_unindexed(key)
        if not self.job_store.progress.complete(claim, picture):
            return "lost"
        self.memory.painting_ended(claim.painting)
        self.faulty.clear()
        return "done"

    def stored(self, claim: Claim, ask: Callable[[], Answer]) -> Answer:
        """What the picture store answers, as soon as it does; meanwhile it is told that it does not.

        What is painted is not thrown away, and nothing fails for it. Raises Stopped.
        """
        wait, longest = STORE_WAIT
        while True:
            try:
                return ask()
            except Unavailable as error:
                log.warning("painting %s waits for the picture store: %s", claim.painting, error)
            self.tell(claim, "waiting for the picture store, which does not answer")
            if self.closing.wait(wait):
                raise Stopped("hand back")
            wait = min(2 * wait, longest)

    def tell(self, claim: Claim, said: str) -> None:
        """Say what a painting waits for; raises Stopped when nobody wants it any more."""
        self.last_sign[claim.painting] = time.monotonic()
        try:
            answer = self.job_store.progress.report_message(claim, said)
        except Unavailable as error:
            log.warning("%s cannot be said of %s: %s", said, claim.painting, error)
            return
        if answer != "go on":
            raise Stopped(answer)

    def paint_and_keep(self, claim: Claim) -> Picture | None:
        """The new picture; None when somebody else kept one of this key meanwhile, which stays."""
        picture, png = self.render(claim)
        return picture if self.stored(claim, lambda: self.memory.keep(picture, png)) else None

    def render(self, claim: Claim) -> tuple[Picture, bytes]:
        """Paint and encode."""
        painter = self.painters(claim.recipe)
        started = time.perf_counter()
        reporter = Reporter(self, claim)
        image = painter(claim.recipe, reporter, self.keep_upload(claim), Turn(claim.user, claim.rank))
        picture = Picture(
            recipe=claim.recipe,
            created=now(),
            seconds=round(time.perf_counter() - started, 3),
            scope=claim.scope,
            device=painter.device,
            joules=round(reporter.joules, 3),
            metered=painter.metered,
        )
        self.spent += reporter.joules
        return picture, write_png(image, picture)

    def keep_upload(self, claim: Claim) -> Image.Image | None:
        """The picture that the recipe starts from; raises Forgotten."""
        if not claim.recipe.init_image:
            return None
        start = self.stored(claim, lambda: self.memory.init_image(claim.recipe.init_image, claim.scope))
        return Image.open(io.BytesIO(start), formats=["PNG"])

    def fail(self, claim: Claim, error: str) -> str:
        """End a painting that cannot be made."""
        self.job_store.progress.fail(claim, error)
        self.memory.painting_ended(claim.painting)
        return "failed"

    def stop(self, claim: Claim, why: str) -> str:
        """End a painting that gives no picture."""
        if why == "cancel":
            self.job_store.progress.end_cancelled(claim)
            self.memory.painting_ended(claim.painting)
        if why == "hand back":
            self.job_store.claims.release(claim)
        return why


class Reporter:
    """After each step: tells how far it is, and stops when nobody waits, the claim is lost or the worker closes."""

    def __init__(self, runner: PaintingRunner, claim: Claim) -> None:
        self.job_store, self.memory, self.closing, self.claim = runner.job_store, runner.memory, runner.closing, claim
        self.last_sign = runner.last_sign
        self.shown = time.monotonic()
        self.joules = 0.0

    def __call__(self, progress: Progress) -> None:
        """Raises Stopped."""
        self.joules, self.last_sign[self.claim.painting] = progress.joules, time.monotonic()
        if self.closing.is_set():
            raise Stopped("hand back")
        try:
            answer = self.job_store.progress.report_step(
                self.claim, progress.step, progress.seconds_left, self.preview(progress), progress.message
            )
        except Unavailable as error:
            log.warning("step %d of %s is not reported: %s", progress.step, self.claim.painting, error)
            return  # the token tells in the end whether the claim still holds
        if answer != "go on":
            raise Stopped(answer)
        if progress.step == 1:
            self.memory.prepare_embedding(self.claim.recipe)  # while the next steps go on

    def preview(self, progress: Progress) -> str:
        """A preview in base64 if the last one is old; the last step needs none."""
        due = time.monotonic() - self.shown >= PREVIEW_SECONDS and progress.step < self.claim.recipe.steps
        if progress.preview is None or not due:
            return ""
        self.shown = time.monotonic()
        return webp(progress.preview())


def webp(image: Image.Image) -> str:
    """Small enough for a field of the painting's record: a kilobyte or two, in base64."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=50)
    return base64.b64encode(file.getvalue()).decode()
