"""Who asks: the person or program behind a request, and whose pictures they may see.

Knows how a key may be sent, and when one is needed; `people` knows the page where one signs in.
"""

import functools
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from flask import abort, current_app, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import validate_csrf
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from memo import SHARED
from worker.jobs.keys import Holder, Keys

from .config import WebConfig

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_NAME = 128  # characters
VISITOR = "visitor"  # the cookie by which a browser is known again
SIGNED_IN = "key"  # in the session: the name of the key that was signed in with
OPEN = ("static", "health.health", "people.sign_in", "people.enter", "links.file", "horde.heartbeat")  # for everybody
REALM = "memoAIzed"
TOKEN_HEADER, TOKEN_FIELD = "X-CSRF-Token", "csrf_token"


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is how jobs, turns and quotas know them, `scope` whose memory they share; an admin sees all."""

    name: str = ""
    scope: str = SHARED
    admin: bool = False
    holder: Holder | None = None  # of the key that they came with, where one is needed

    @property
    def sees(self) -> str | None:
        """The scope whose jobs and pictures they may see; None is every scope."""
        return None if self.admin else self.scope


STRANGER = Caller(scope="")  # before the door: nothing is theirs


def who() -> Caller:
    """Behind this request; without keys, as on one's own machine, whoever comes is admin of the shared memory."""
    known: Caller | None = g.get("caller")
    if known is None and keys_required():
        return STRANGER
    return known or Caller(visitor(), SHARED, admin=True)


def visitor() -> str:
    """What this browser calls itself, or ""."""
    return request.cookies.get(VISITOR, "")[:LONGEST_NAME]


def identify() -> ResponseReturnValue | None:
    """Know the caller; 401 where a key is needed and none that is known was sent, for a page the way to sign in."""
    if not keys_required() or request.endpoint in OPEN:
        return None
    offered = offered_key()
    holder = keys().holder(offered) if offered else signed_in()
    if holder is None:
        return refuse(offered)
    g.caller = Caller(holder.name, holder.scope, holder.role == "admin", holder)
    if not offered:
        check_token()
    return None


def keys_required() -> bool:
    """Whether this request needs a key: as WEB_KEYS says, by itself unless both ends are this machine."""
    config: WebConfig = current_app.extensions["config"]
    if config.keys != "auto":
        return config.keys == "required"
    ends = (request.environ.get("SERVER_NAME", ""), request.environ.get("REMOTE_ADDR", ""))
    return not all(map(is_loopback, ends))


def is_loopback(address: str) -> bool:
    """Whether only this machine can be there."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def offered_key() -> str | None:
    """The key in the headers: a bearer token (RFC 6750), the password of Basic (RFC 7617), or `apikey`."""
    sent = request.authorization
    if sent is not None and sent.type == "bearer":
        return sent.token
    if sent is not None and sent.type == "basic":
        return sent.password
    return request.headers.get("apikey")


def signed_in() -> Holder | None:
    """Whoever signed in with this browser, unless their key is gone."""
    named: str | None = session.get(SIGNED_IN)
    return keys().known(named) if named else None


def keys() -> Keys:
    """Those there are."""
    found: Keys = current_app.extensions["keys"]
    return found


def check_token() -> None:
    """403 unless whatever changes something carries the session's token: another site can send cookies, not that.

    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if request.method in ("GET", "HEAD", "OPTIONS", "TRACE"):
        return
    try:
        validate_csrf(request.headers.get(TOKEN_HEADER) or request.form.get(TOKEN_FIELD), time_limit=None)
    except ValueError as error:
        abort(403, f"this page is out of date, load it anew ({error})")


def refuse(offered: str | None) -> ResponseReturnValue:
    """To the page where one signs in, or 401 that says how to send a key."""
    accepted = request.accept_mimetypes
    if offered is None and request.method == "GET" and accepted["text/html"] > accepted["application/json"]:
        return redirect(url_for("people.sign_in", next=request.full_path.rstrip("?")))
    said = "no key was sent: " if offered is None else "this key is not known: "
    more: dict[str, str | None] = {"error": "invalid_token"} if offered else {}
    how = WWWAuthenticate("bearer", {"realm": REALM, **more})
    raise Unauthorized(f"{said}send `Authorization: Bearer KEY`, or sign in", www_authenticate=how)


def for_admins(view: Callable[P, R]) -> Callable[P, R]:
    """A view that only admins may see: 403 for others."""

    @functools.wraps(view)
    def guarded(*args: P.args, **named: P.kwargs) -> R:
        if not who().admin:
            abort(403, "this is for admins: `memoaized key add NAME --role admin` makes a key for one")
        return view(*args, **named)

    return guarded
