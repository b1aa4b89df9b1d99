"""Sessions of people who signed in with an API key. Knows Redis; nothing of HTTP or cookies.

A browser holds a session's id, and Redis holds the id's hash with the key: what is read from Redis or from its files
opens no session, and what ends here has ended for every copy of the cookie.
"""

import json
import secrets

from jobs.api_keys import ApiKey, digest
from jobs.store import scripts
from jobs.store.connection import Connection, redis_errors

BYTES = 32  # random bytes in an id
SESSION_SECONDS = 30 * 24 * 3600  # how long a session lasts after its last use


class Sessions:
    """The sessions in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.run_find = connection.script(scripts.FIND_SESSION)

    def begin(self, key: ApiKey) -> str:
        """Begin a session of this key's holder; returns its id, which is not kept."""
        session = secrets.token_urlsafe(BYTES)
        with redis_errors():
            self.redis.set(self.name(session), key.id, ex=SESSION_SECONDS)
        return session

    def find(self, session: str) -> ApiKey | None:
        """The key of a session, which then lasts for another SESSION_SECONDS; None if it or the key has ended."""
        text = self.run_find(digest(session), SESSION_SECONDS)
        return ApiKey(**json.loads(text)) if text else None

    def end(self, session: str) -> None:
        """End a session; it is no error if there is none."""
        with redis_errors():
            self.redis.delete(self.name(session))

    def name(self, session: str) -> str:
        """The Redis key of a session."""
        return f"{self.prefix}session:{digest(session)}"
