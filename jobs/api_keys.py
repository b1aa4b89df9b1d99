"""API keys of people and programs. Knows Redis; nothing of HTTP.

A key is 256 random bits, so a plain fast hash of it is enough: hashes of passwords are slow and salted because
passwords can be guessed, and keys cannot (https://www.rfc-editor.org/rfc/rfc9106#section-1). The hashes reveal no
key, and neither does the time that it takes to look one up by its hash.
"""

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass

from jobs.store.connection import Connection, redis_errors
from memo import SHARED, BadSetup, now

PREFIX = "memo_"  # by which scanners for leaked secrets recognize a key
BYTES = 32  # of randomness in a key
ROLES = ("user", "admin")
SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,80}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key without the key itself: who holds it, and what it permits."""

    id: str  # 64 hex digits: the key's hash
    name: str
    role: str = "user"  # or admin
    scope: str = SHARED  # the memory that its holder uses
    daily: int | None = None  # pictures a day; None for the server's usual limit
    created: float = 0.0  # seconds since 1970


class ApiKeys:
    """The API keys in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def add(self, name: str, *, role: str = "user", scope: str = "", daily: int | None = None) -> tuple[ApiKey, str]:
        """Create a key; returns its record and the key itself, which is not kept. Raises BadSetup.

        Without a scope the key gets a private memory; a later key of the same name gets the same one.
        """
        if not NAME.fullmatch(name) or not SCOPE.fullmatch(scope or name):
            raise BadSetup(
                f"the name {name!r} or scope {scope!r} cannot be used: write at most 64 letters, digits and . _ @ -,"
                " and begin with a letter or digit"
            )
        if role not in ROLES:
            raise BadSetup(f"{role!r} is not a role: choose one of {', '.join(ROLES)}")
        key = PREFIX + secrets.token_urlsafe(BYTES)
        full_scope = self.complete_scope(scope or name)
        record = ApiKey(id=digest(key), name=name, role=role, scope=full_scope, daily=daily, created=now())
        with redis_errors():
            if not self.redis.hsetnx(self.prefix + "key-names", name, record.id):
                raise BadSetup(f"there is a key named {name!r} already: remove it first")
            self.redis.hset(self.prefix + "keys", record.id, json.dumps(asdict(record)))
        return record, key

    def complete_scope(self, name: str) -> str:
        """The full name of a scope, whose random end keeps the keys of its pictures from being guessed.

        `shared` and full names are returned as they are.
        """
        if name == SHARED or re.search(r"\.[0-9a-f]{16}$", name):
            return name
        with redis_errors():
            self.redis.hsetnx(self.prefix + "scopes", name, f"{name}.{secrets.token_hex(8)}")
            return str(self.redis.hget(self.prefix + "scopes", name))

    def find(self, key: str) -> ApiKey | None:
        """The record of this key; None for an unknown key."""
        return self.find_by_id(digest(key))

    def find_by_id(self, key_id: str) -> ApiKey | None:
        """The record of the key with this id, its hash; None for an unknown one."""
        with redis_errors():
            text = self.redis.hget(self.prefix + "keys", key_id)
        return ApiKey(**json.loads(text)) if text else None

    def all(self) -> list[ApiKey]:
        """All records, by name."""
        with redis_errors():
            texts = self.redis.hvals(self.prefix + "keys")
        return sorted((ApiKey(**json.loads(text)) for text in texts), key=lambda record: record.name)

    def remove(self, name: str) -> bool:
        """Revoke a key at once; False when there is none of this name. Its pictures stay."""
        if not NAME.fullmatch(name):
            return False
        with redis_errors():
            key_id = self.redis.hget(self.prefix + "key-names", name)
            if key_id is None:
                return False
            pipe = self.redis.pipeline(transaction=True)
            pipe.hdel(self.prefix + "keys", key_id)
            pipe.hdel(self.prefix + "key-names", name)
            pipe.execute()
        return True

    def signing_secret(self) -> str:
        """The secret that signs sessions and links, the same for all web processes; generated on first use."""
        with redis_errors():
            self.redis.set(self.prefix + "web-secret", secrets.token_hex(32), nx=True)
            return str(self.redis.get(self.prefix + "web-secret"))


def digest(key: str) -> str:
    """The SHA-256 of a key, 64 hex digits."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
