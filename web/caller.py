"""Who asks: the person or program behind a request, and whose pictures they may see."""

from dataclasses import dataclass

from flask import g, request

from memo import SHARED

LONGEST_NAME = 128  # characters
VISITOR = "visitor"  # the cookie by which a browser is known again


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is how jobs, turns and quotas know them, `scope` whose memory they share; an admin sees all."""

    name: str = ""
    scope: str = SHARED
    admin: bool = False


def who() -> Caller:
    """Behind this request; without keys, as on one's own machine, whoever comes is admin of the shared memory."""
    known: Caller | None = g.get("caller")
    return known or Caller(visitor(), SHARED, admin=True)


def visitor() -> str:
    """What this browser calls itself, or ""."""
    return request.cookies.get(VISITOR, "")[:LONGEST_NAME]
