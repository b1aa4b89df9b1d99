"""What the holder of a claim reports: steps, messages, and how the painting ended."""

from collections.abc import Mapping

from jobs.job import Claim, State
from memo import Picture, now

from . import scripts
from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import dump_picture, flatten
from .statistics import cost_class, count_this_minute


class ProgressReports:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.run_step = connection.script(scripts.STEP)
        self.run_message = connection.script(scripts.MESSAGE)
        self.run_finish = connection.script(scripts.FINISH)

    def report_step(
        self, claim: Claim, step: int, seconds_left: float | None = None, preview: str = "", message: str = ""
    ) -> str:
        """Report a finished step; returns "go on", "cancel", or "lost" when another worker has the claim.

        `preview` is a WebP in base64 that replaces the one before; `message` says what the painting waits for.
        """
        left = "" if seconds_left is None else round(seconds_left, 3)
        return str(self.run_step(claim.painting, claim.token, step, left, preview, message))

    def report_message(self, claim: Claim, message: str, *, fault: str = "") -> str:
        """Report what a painting waits for while it takes no step, or the fault that ended this attempt.

        Returns the same words as `report_step`.
        """
        return str(self.run_message(claim.painting, claim.token, message, fault))

    def complete(self, claim: Claim, picture: Picture) -> bool:
        """End the painting with its kept picture and count its cost; False when the claim is lost."""
        if not self.finish(claim, State.DONE, {"picture": dump_picture(picture)}):
            return False
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            for what, value in (("seconds", picture.seconds), ("joules", picture.joules), ("count", 1.0)):
                pipe.hincrbyfloat(self.prefix + "spent", f"{cost_class(picture.recipe)}:{what}", value)
            totals = {"seconds_spent": picture.seconds, "joules_spent": picture.joules, "pictures": 1.0}
            for name, value in totals.items():
                pipe.hincrbyfloat(self.prefix + "counts", name, value)
            count_this_minute(pipe, self.prefix, totals)
            pipe.execute()
        return True

    def fail(self, claim: Claim, error: str) -> bool:
        """End the painting with an error, which users see; False when the claim is lost."""
        return self.finish(claim, State.FAILED, {"error": error})

    def end_cancelled(self, claim: Claim) -> bool:
        """End a painting that nobody waits for any more; False when the claim is lost."""
        return self.finish(claim, State.CANCELLED, {})

    def finish(self, claim: Claim, state: State, facts: Mapping[str, str]) -> bool:
        """Write a final state; False when the claim is lost."""
        return bool(self.run_finish(claim.painting, claim.token, state, now(), KEPT_SECONDS, *flatten(facts)))
