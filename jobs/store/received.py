"""The pictures that each user received lately, so that a repeated request can be given another one.

A job with a receipt counts as received: the receipt names the user and the wish.
"""

from collections import defaultdict
from collections.abc import Iterable

from jobs.job import Job

from . import scripts
from .connection import Connection
from .records import hash_name

MAX_RECEIVED = 200  # wishes and pictures that are remembered for each user


class ReceivedPictures:
    """What users received, and for which wishes. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.run_record = connection.script(scripts.RECORD_RECEIVED)
        self.run_find = connection.script(scripts.FIND_RECEIVED)

    def record(self, jobs: Iterable[Job], seconds: float) -> None:
        """Record that the pictures of these jobs were received, and remember it for some seconds."""
        members: dict[str, list[str]] = defaultdict(list)
        for job in jobs:
            if job.picture and job.receipt:
                user, wish = job.receipt.split()
                members[user] += [f"wish:{wish}", f"picture:{job.picture.key}"]
        for user, theirs in members.items():
            self.run_record(user, seconds, MAX_RECEIVED, *theirs)

    def find(self, receipt: str, seconds: float) -> set[str]:
        """Return the keys of all pictures that a user received lately; none unless one was for this wish."""
        return set(self.run_find(*receipt.split(), seconds))


def make_receipt(user: str, wish: str) -> str:
    """Make a receipt from the name of a user and the key of a wish (a recipe without a seed)."""
    return f"{hash_name(user)} {wish}"
