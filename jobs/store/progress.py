"""What the holder of a claim reports: steps, messages, and how the painting ended."""

from collections.abc import Mapping

from jobs.job import Claim, State
from memo import Picture

from . import scripts
from .connection import KEPT_SECONDS, Connection
from .records import dump, dump_picture
from .statistics import cost_class, share_saved, this_minute, whole_cost


class ProgressReports:
    """Records the reports of workers. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
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
        cost = {"seconds": picture.seconds, "joules": picture.joules}
        counted = {
            "key": picture.key,
            "cost_class": cost_class(picture.recipe),
            "minute": this_minute(),
            "counts": {**{f"{what}_spent": value for what, value in cost.items()}, "pictures": 1},
            "costs": {**cost, "count": 1},
            "whole": dict(zip(cost, whole_cost(picture), strict=True)),
            "share_saved": share_saved(picture),
        }
        return self.finish(claim, State.DONE, {"picture": dump_picture(picture)}, counted)

    def fail(self, claim: Claim, error: str) -> bool:
        """End the painting with an error, which users see; False when the claim is lost."""
        return self.finish(claim, State.FAILED, {"error": error})

    def end_cancelled(self, claim: Claim) -> bool:
        """End a painting that nobody waits for any more; False when the claim is lost."""
        return self.finish(claim, State.CANCELLED, {})

    def finish(
        self, claim: Claim, state: State, fields: Mapping[str, str], counted: Mapping[str, object] | None = None
    ) -> bool:
        """Write a final state; False when the claim is lost. `counted` is what FINISH in scripts.py counts."""
        ending = {
            "painting": claim.painting,
            "token": claim.token,
            "state": state.value,
            "kept_seconds": KEPT_SECONDS,
            "fields": fields,
        }
        return bool(self.run_finish(dump({**ending, **(counted or {})})))
