"""The connection to Redis that all parts of the job store share: client, prefix of keys, scripts, errors."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import redis

from memo import Unavailable

PREFIX = "memoaized:"
MAX_CONNECTIONS = 64  # of one process; beyond that, threads wait for each other's
POOL_WAIT_SECONDS = 10
CHECK_SECONDS = 60  # until the key that a check writes expires
KEPT_SECONDS = 7 * 24 * 3600  # for which finished jobs are kept


class Connection:
    """Redis under one prefix. Every key of ours is the prefix and a name that scripts.py lists."""

    def __init__(self, client: "redis.Redis[str]", prefix: str = PREFIX) -> None:
        self.redis, self.prefix = client, prefix

    def script(self, text: str) -> Callable[..., Any]:
        """A Lua script as a function, which passes the prefix and its arguments on and raises Unavailable."""
        script = self.redis.register_script(text)

        def run(*arguments: object) -> Any:
            with redis_errors():
                return script(args=[self.prefix, *(encodable(str(argument)) for argument in arguments)])

        return run

    def check(self) -> None:
        """Raise Unavailable unless Redis answers and takes writes: a full one still answers to a ping."""
        with redis_errors():
            self.redis.set(self.prefix + "checked", 1, ex=CHECK_SECONDS)

    def close(self) -> None:
        """Close the connections of the pool."""
        self.redis.close()


def encodable(text: str) -> str:
    """The text with `?` for halves of surrogate pairs, which Redis refuses; names of files may have them."""
    return text.encode(errors="replace").decode()


@contextlib.contextmanager
def redis_errors() -> Iterator[None]:
    """Translate the errors of redis-py to Unavailable.

    A Redis that refuses to write (OOM, MISCONF, READONLY) recovers like one that is down.
    """
    try:
        yield
    except redis.ResponseError as error:
        raise Unavailable(f"the queue does not answer as it should: {error}") from error
    except redis.RedisError as error:
        raise Unavailable(f"the queue does not answer: {error}") from error


def open_connection(url: str) -> Connection:
    """A connection to a redis-py URL (redis://, rediss:// or unix://), made on first use."""
    timeouts = {"socket_timeout": 10, "socket_connect_timeout": 3, "health_check_interval": 30}
    pool = redis.BlockingConnectionPool.from_url(
        url, decode_responses=True, max_connections=MAX_CONNECTIONS, timeout=POOL_WAIT_SECONDS, **timeouts
    )
    return Connection(redis.Redis.from_pool(pool))
