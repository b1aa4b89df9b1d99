"""The keys by which people and programs are known. Knows Redis by way of the board; nothing of HTTP.

A key is 256 bits drawn at random, so that a plain fast hash of it is enough: what makes a password's hash slow and
salted is that passwords can be guessed, and these cannot (https://www.rfc-editor.org/rfc/rfc9106#section-1). Whoever
reads the hashes learns no key, and looking one up by its hash tells nothing by the time that it takes.
"""

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass

from jobs.store.connection import Connection, redis_errors
from memo import SHARED, BadSetup, now

PREFIX = "memo_"  # by which scanners for leaked secrets know one
BYTES = 32
ROLES = ("user", "admin")
SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,80}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Whose key it is, and what it opens."""

    id: str  # 64 hex digits: the key's hash
    name: str
    role: str = "user"  # or admin
    scope: str = SHARED  # whose memory they share
    daily: int | None = None  # pictures a day, if not as many as everybody
    created: float = 0.0  # seconds since 1970


class ApiKeys:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def add(self, name: str, *, role: str = "user", scope: str = "", daily: int | None = None) -> tuple[ApiKey, str]:
        """A new key's holder, and the key itself, which is told this once; raises BadSetup.

        Without a scope the memory is the holder's own, the same again whenever there is a key of this name.
        """
        if not NAME.fullmatch(name) or not SCOPE.fullmatch(scope or name):
            raise BadSetup(f"{name!r}, {scope!r}: a name is of at most 64 letters, digits and . _ @ -")
        if role not in ROLES:
            raise BadSetup(f"{role!r} is no role: choose one of {', '.join(ROLES)}")
        key = PREFIX + secrets.token_urlsafe(BYTES)
        where = self.scope_named(scope or name)
        holder = ApiKey(id=digest(key), name=name, role=role, scope=where, daily=daily, created=now())
        with redis_errors():
            if not self.redis.hsetnx(self.prefix + "key-names", name, holder.id):
                raise BadSetup(f"there is a key of {name} already: remove it first")
            self.redis.hset(self.prefix + "keys", holder.id, json.dumps(asdict(holder)))
        return holder, key

    def scope_named(self, name: str) -> str:
        """The scope that people call so; half of its full name is drawn by chance: nobody guesses keys in it."""
        if name == SHARED or re.search(r"\.[0-9a-f]{16}$", name):
            return name
        with redis_errors():
            self.redis.hsetnx(self.prefix + "scopes", name, f"{name}.{secrets.token_hex(8)}")
            return str(self.redis.hget(self.prefix + "scopes", name))

    def holder(self, key: str) -> ApiKey | None:
        """Whose key this is; None for one that is not known."""
        return self.known(digest(key))

    def known(self, named: str) -> ApiKey | None:
        """The holder of the key with this hash."""
        with redis_errors():
            found = self.redis.hget(self.prefix + "keys", named)
        return ApiKey(**json.loads(found)) if found else None

    def all(self) -> list[ApiKey]:
        """Everybody, by name."""
        with redis_errors():
            found = self.redis.hvals(self.prefix + "keys")
        return sorted((ApiKey(**json.loads(text)) for text in found), key=lambda holder: holder.name)

    def remove(self, name: str) -> bool:
        """Make a key worthless at once; False when there is none of this name. Pictures stay."""
        with redis_errors():
            named = self.redis.hget(self.prefix + "key-names", name)
            if named is None:
                return False
            pipe = self.redis.pipeline(transaction=True)
            pipe.hdel(self.prefix + "keys", named)
            pipe.hdel(self.prefix + "key-names", name)
            pipe.execute()
        return True

    def secret(self) -> str:
        """What sessions are signed with: the same for all web processes, drawn at first use."""
        with redis_errors():
            self.redis.set(self.prefix + "web-secret", secrets.token_hex(32), nx=True)
            return str(self.redis.get(self.prefix + "web-secret"))


def digest(key: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
