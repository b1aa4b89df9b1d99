"""The pictures that each user received lately, so that a repeated request can be given another one."""

from collections.abc import Collection

from . import scripts
from .connection import Connection, redis_errors
from .records import hash_name

MAX_RECEIVED = 1000  # wishes and pictures that are remembered for each user


class ReceivedPictures:
    """The pictures that users received, and for which wishes. Methods raise Unavailable when Redis does not answer.

    A wish is named by the key of a recipe without a seed.
    """

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.run_record = connection.script(scripts.RECORD_RECEIVED)
        self.run_find = connection.script(scripts.FIND_RECEIVED)

    def record(self, user: str, wishes: Collection[str], pictures: Collection[str], seconds: float) -> None:
        """Record that a user received these pictures for these wishes, and remember it for some seconds."""
        self.run_record(hash_name(user), seconds, MAX_RECEIVED, *members_of(wishes, pictures))

    def forget(self, user: str, wishes: Collection[str], pictures: Collection[str]) -> None:
        """Take back that a user received these pictures for these wishes."""
        with redis_errors():
            self.redis.zrem(f"{self.prefix}received:{hash_name(user)}", *members_of(wishes, pictures))

    def find(self, user: str, wish: str, seconds: float) -> set[str]:
        """The pictures that a user received within so many seconds, by key; none unless one was for this wish."""
        return set(self.run_find(hash_name(user), seconds, wish))


def members_of(wishes: Collection[str], pictures: Collection[str]) -> list[str]:
    """The members of the sorted set that stand for these wishes and pictures."""
    return [*(f"wish:{wish}" for wish in wishes), *(f"picture:{key}" for key in pictures)]
