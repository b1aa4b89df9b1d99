"""Work that workers do later: pictures to index once the index is back, and old initial images to remove."""

import json

from memo import now

from .connection import KEPT_SECONDS, Connection, redis_errors

BATCH = 16  # entries handed out at once


class Backlog:
    """Lists of pending work in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def add_unindexed(self, key: str) -> None:
        """Remember durably that this kept picture is not indexed yet."""
        with redis_errors():
            self.redis.xadd(self.prefix + "unindexed", {"key": key})

    def unindexed(self) -> list[tuple[str, str]]:
        """The oldest pictures that are not indexed, as (entry id, picture key)."""
        with redis_errors():
            entries = self.redis.xrange(self.prefix + "unindexed", count=BATCH)
        return [(entry, fields["key"]) for entry, fields in entries]

    def remove_unindexed(self, entry: str) -> None:
        """Remove the entry of a picture that has been indexed."""
        with redis_errors():
            self.redis.xdel(self.prefix + "unindexed", entry)

    def touch_init_image(self, init_image: str, scope: str) -> None:
        """Note that this initial image was uploaded or used just now."""
        with redis_errors():
            self.redis.zadd(self.prefix + "init-images", {json.dumps([init_image, scope]): now()})

    def old_init_images(self) -> list[tuple[str, str]]:
        """Initial images, as (name, scope), that nobody has used for longer than KEPT_SECONDS."""
        with redis_errors():
            old = self.redis.zrangebyscore(self.prefix + "init-images", "-inf", now() - KEPT_SECONDS, 0, BATCH)
        return [(init_image, scope) for init_image, scope in map(json.loads, old)]

    def drop_init_image(self, init_image: str, scope: str) -> None:
        """Take this initial image off the list until it is touched again."""
        with redis_errors():
            self.redis.zrem(self.prefix + "init-images", json.dumps([init_image, scope]))
