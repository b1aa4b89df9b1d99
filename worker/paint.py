"""Claims paintings, paints them and keeps the pictures. Knows the job store and the memory; neither Celery nor torch.

Safe to run twice: one worker at a time holds a claim, a picture's bytes are written once, and a worker that lost its
claim changes nothing any more.
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
from jobs.store.claims import Occupied
from jobs.store.job_store import JobStore
from memo import BadRecipe, MemoError, Memory, Picture, Recipe, Unavailable, now, write_png
from memo.errors import BadPicture
from memo.image_files import read_pixels
from worker.painters.port import Painter, Progress, TooLarge, Turn

from .inspection import check_picture

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
PREVIEW_SECONDS = 0.7  # between two previews of a painting
STORE_WAIT = 0.5, 5.0  # seconds before the store is tried again: the first wait, and the longest after doubling
OCCUPIED_SECONDS = 1.0  # the longest that a thread waits after it was refused a claim
MAX_FAILURES = 3  # paintings in a row that fail unexpectedly: then the worker is broken, not the paintings

Result = TypeVar("Result")


class Stopped(Exception):
    """The painting ends here without a picture; the message says why: "cancel", "lost" or "hand back"."""


class PaintingRunner:
    """Claims paintings and paints them; `painters` returns the painter of a recipe."""

    def __init__(self, job_store: JobStore, memory: Memory, painters: Callable[[Recipe], Painter]) -> None:
        self.job_store, self.memory, self.painters = job_store, memory, painters
        self.claims: dict[str, Claim] = {}
        self.painting_over = threading.Condition()
        self.held_back = 0  # threads that may claim nothing until others have painted
        self.last_sign: dict[str, float] = {}  # by painting: when it last took a step or reported; monotonic
        self.closing = threading.Event()
        self.ended: Counter[str] = Counter()  # paintings by how they ended on this worker
        self.joules = 0.0  # spent on finished pictures
        self.painter_states: Callable[[], dict[str, dict[str, float]]] = dict
        self.models: Sequence[str] = ()  # models that this worker serves besides the one of a message
        self.left: list[Claim] = []  # claims of paintings that ended while the queue did not answer
        self.unserved: list[str] = []  # models whose message came while this worker was closing
        self.faulty: set[str] = set()  # paintings that failed unexpectedly since the last success
        self.give_up: Callable[[], None] = self.closing.set  # ends this worker, so that a new one is started

    def handle_message(self, model: str) -> str:
        """Paint until nothing waits for this worker's models, so later messages may find nothing to do.

        Returns the outcomes, for Celery's log.
        """
        outcomes: list[str] = []
        while not self.closing.is_set():
            try:
                outcome = self.paint(model, *self.models)
            except Occupied:
                self.wait_for_others()
                continue
            if outcome == "nothing":
                break
            outcomes.append(outcome)
        else:
            self.unserved.append(model)
        return ", ".join(outcomes)

    def paint(self, *models: str) -> str:
        """Claim the next painting of these models and paint it; returns the outcome, "nothing" if none waits.

        Raises Occupied while a painting must be alone on this worker.
        """
        try:
            claim = self.job_store.claims.claim(*models)
        except Unavailable as error:
            log.warning("could not claim a painting of %s, so another worker will: %s", models[0], error)
            return "nothing"
        if claim is None:
            return "nothing"
        outcome = self.paint_claimed(claim)
        self.ended[outcome] += 1
        return outcome

    def wait_for_others(self) -> None:
        """Wait until a painting has ended here, or another worker may have claimed the one that must be alone."""
        with self.painting_over:
            self.held_back += 1
            self.painting_over.wait(OCCUPIED_SECONDS)
            self.held_back -= 1

    def state(self) -> dict[str, object]:
        """What this worker is doing and has done, for its heartbeat."""
        counts = {"busy": len(self.claims), "ended": dict(self.ended), "joules": round(self.joules, 3)}
        return {**counts, "painters": self.painter_states()}

    def paint_claimed(self, claim: Claim) -> str:
        """Paint; if the queue stops answering, the claim is released when it answers again or the lease runs out."""
        painting = claim.painting
        alone = " alone, because a worker died while painting it" if claim.suspect else ""
        log.info("painting %s%s, attempt %d", painting, alone, claim.attempt)  # prompts are their users' own business
        self.claims[painting], self.last_sign[painting] = claim, time.monotonic()
        try:
            return self.attempt(claim)
        except Unavailable as error:
            log.warning("painting %s will be tried again when the queue answers: %s", painting, error)
            self.left.append(claim)
            return "left"
        finally:
            self.claims.pop(painting, None)
            self.last_sign.pop(painting, None)
            with self.painting_over:
                self.painting_over.notify_all()

    def release_left(self) -> list[str]:
        """Put paintings that were left during an outage of the queue back into it; returns their models.

        So these attempts do not count as deaths of their worker. Raises Unavailable.
        """
        released = []
        while self.left:
            if self.job_store.claims.release(self.left[0]):
                released.append(self.left[0].recipe.model)
            del self.left[0]
        return released

    def attempt(self, claim: Claim) -> str:
        """Paint, and handle every error but Unavailable, which is raised while the queue does not answer."""
        if claim.attempt > MAX_ATTEMPTS:
            fault = f"; an earlier attempt failed: {claim.fault}" if claim.fault else ""
            return self.fail(claim, f"the worker died {MAX_ATTEMPTS} times while painting this picture{fault}")
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
        except Exception as error:  # tried again, then shown to the user
            log.exception("painting %s failed", claim.painting)
            self.count_failure(claim.painting)
            return self.try_later(claim, f"{type(error).__name__}: {error}")

    def try_later(self, claim: Claim, error: str) -> str:
        """Let the claim's lease run out, so that the painting is tried again; after the last attempt, fail it."""
        if claim.attempt >= MAX_ATTEMPTS:
            return self.fail(claim, error)
        log.warning("attempt %d at painting %s failed: %s", claim.attempt, claim.painting, error)
        self.job_store.progress.report_message(
            claim, f"attempt {claim.attempt} failed and will be repeated soon: {error}", fault=error
        )
        return "left"

    def count_failure(self, painting: str) -> None:
        """Count an unexpected failure; after MAX_FAILURES in a row, end this worker, since its GPU may be faulty."""
        self.faulty.add(painting)
        if len(self.faulty) >= MAX_FAILURES:
            log.critical("%d paintings in a row failed here: this worker ends, to be restarted", MAX_FAILURES)
            self.give_up()

    def work(self, claim: Claim) -> str:
        """Paint, keep, index, complete: bytes are durable before the index names them, and the job is done last."""
        key = claim.key
        is_kept = self.wait_for_store(claim, lambda: self.memory.has(key))  # true if a worker kept it and then died
        new_picture = None if is_kept else self.paint_and_keep(claim)
        picture = new_picture or self.wait_for_store(claim, lambda: self.memory.picture(key))
        try:
            self.memory.index_picture(picture, new=new_picture is not None)
        except Unavailable as error:
            log.warning("picture %s is kept and will be indexed later: %s", key, error)
        if not self.job_store.progress.complete(claim, picture):
            return "lost"
        self.memory.painting_ended(claim.painting)
        self.faulty.clear()
        return "done"

    def wait_for_store(self, claim: Claim, call: Callable[[], Result]) -> Result:
        """What `call` returns once the picture store answers; until then users see what the painting waits for.

        So a finished picture is not lost because the store is down. Raises Stopped.
        """
        wait, longest = STORE_WAIT
        while True:
            try:
                return call()
            except Unavailable as error:
                log.warning("painting %s waits for the picture store: %s", claim.painting, error)
            self.report(claim, "waiting for the picture store, which does not answer")
            if self.closing.wait(wait):
                raise Stopped("hand back")
            wait = min(2 * wait, longest)

    def report(self, claim: Claim, message: str) -> None:
        """Report what a painting waits for; raises Stopped when it was cancelled or the claim is lost."""
        self.last_sign[claim.painting] = time.monotonic()
        try:
            answer = self.job_store.progress.report_message(claim, message)
        except Unavailable as error:
            log.warning("painting %s cannot report that it is %s: %s", claim.painting, message, error)
            return
        if answer != "go on":
            raise Stopped(answer)

    def paint_and_keep(self, claim: Claim) -> Picture | None:
        """Paint and keep the picture; returns None if another worker kept a picture with this key meanwhile."""
        picture, png = self.render(claim)
        return picture if self.wait_for_store(claim, lambda: self.memory.keep(picture, png)) else None

    def render(self, claim: Claim) -> tuple[Picture, bytes]:
        """Paint the claim's recipe; returns the picture and its PNG. Raises BlankPicture for a flat colour."""
        painter = self.painters(claim.recipe)
        started = time.perf_counter()
        reporter = Reporter(self, claim)
        init_image = self.open_init_image(claim)
        image = painter(claim.recipe, reporter, init_image, Turn(claim.user, claim.rank))
        check_picture(image, claim.recipe, init_image)
        picture = Picture(
            recipe=claim.recipe,
            created=now(),
            seconds=round(time.perf_counter() - started, 3),
            scope=claim.scope,
            device=painter.device,
            joules=round(reporter.joules, 3),
            metered=painter.metered,
            notes=reporter.notes,
            near=claim.near,
        )
        self.joules += reporter.joules
        return picture, write_png(image, picture)

    def open_init_image(self, claim: Claim) -> Image.Image | None:
        """The image that the recipe starts from; raises Forgotten, or BadRecipe if its file is damaged."""
        if not claim.recipe.init_image:
            return None
        init_image = self.wait_for_store(claim, lambda: self.memory.init_image(claim.recipe.init_image, claim.scope))
        try:
            return read_pixels(init_image, kinds=("PNG",))
        except BadPicture as error:
            remedy = f"upload the initial picture again, since the stored file is damaged ({error})"
            raise BadRecipe("init_image", claim.recipe.init_image, remedy) from error

    def fail(self, claim: Claim, error: str) -> str:
        """End a painting with an error; returns the outcome."""
        self.job_store.progress.fail(claim, error)
        self.memory.painting_ended(claim.painting)
        return "failed"

    def stop(self, claim: Claim, why: str) -> str:
        """End a cancelled painting, or hand a claim back to the queue; returns the outcome, which is the reason."""
        if why == "cancel":
            self.job_store.progress.end_cancelled(claim)
            self.memory.painting_ended(claim.painting)
        if why == "hand back":
            self.job_store.claims.release(claim)
        return why


class Reporter:
    """Reports each step; stops the painting when it was cancelled, its claim is lost or the worker closes."""

    def __init__(self, runner: PaintingRunner, claim: Claim) -> None:
        self.job_store, self.memory, self.closing, self.claim = runner.job_store, runner.memory, runner.closing, claim
        self.last_sign = runner.last_sign
        self.last_preview = time.monotonic()
        self.joules = 0.0
        self.notes: tuple[str, ...] = ()

    def __call__(self, progress: Progress) -> None:
        """Report a step; raises Stopped."""
        self.joules, self.notes = progress.joules, progress.notes
        self.last_sign[self.claim.painting] = time.monotonic()
        if self.closing.is_set():
            raise Stopped("hand back")
        try:
            answer = self.job_store.progress.report_step(
                self.claim, progress.step, progress.seconds_left, self.preview(progress), progress.message
            )
        except Unavailable as error:
            log.warning("step %d of painting %s was not reported: %s", progress.step, self.claim.painting, error)
            return  # completing the painting shows whether the claim still holds
        if answer != "go on":
            raise Stopped(answer)
        if progress.step == 1:
            self.memory.prepare_embedding(self.claim.recipe, self.claim.scope)  # while the next steps are painted

    def preview(self, progress: Progress) -> str:
        """A preview in base64; "" while the last one is new enough, and for the last step."""
        is_due = time.monotonic() - self.last_preview >= PREVIEW_SECONDS
        if progress.preview is None or not is_due or progress.step >= self.claim.recipe.steps:
            return ""
        self.last_preview = time.monotonic()
        return webp(progress.preview())


def webp(image: Image.Image) -> str:
    """The image as a WebP of a kilobyte or two, in base64, small enough for a field of the painting's hash."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=50)
    return base64.b64encode(file.getvalue()).decode()
