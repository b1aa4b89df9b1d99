"""Who asks: the person or program behind a request, and whose pictures they may see.

Knows how a key may be sent, and when one is needed; `people` knows the page where one signs in.
"""

import functools
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import abort, current_app, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import validate_csrf
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from jobs.api_keys import ApiKey, ApiKeys
from memo import SHARED

from .config import WebConfig

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_NAME = 128  # characters
VISITOR = "visitor"  # the cookie by which a browser is known again
SIGNED_IN = "key"  # in the session: the name of the key that was signed in with
OPEN = ("static", "health.health", "people.sign_in", "people.enter", "links.file", "horde.heartbeat")  # for everybody
PASSED_ON = ("X-Forwarded-For", "Forwarded", "X-Real-IP")  # what a proxy says of whom it asks for
REALM = "memoAIzed"
TOKEN_HEADER, TOKEN_FIELD = "X-CSRF-Token", "csrf_token"


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is how jobs, turns and quotas know them, `scope` whose memory they share; an admin sees all."""

    name: str = ""
    scope: str = SHARED
    admin: bool = False
    holder: ApiKey | None = None  # of the key that they came with, where one is needed

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
    return bool(elsewhere()) if config.keys == "auto" else config.keys == "required"


def why_required() -> str:
    """What makes a key needed where WEB_KEYS leaves that open, and how to do without one; "" elsewhere."""
    config: WebConfig = current_app.extensions["config"]
    found = elsewhere() if config.keys == "auto" else ""
    return f"a key is needed because {found}; WEB_KEYS=off asks nobody for one" if found else ""


def elsewhere() -> str:
    """Why this request may come from beyond this machine, in words; "" when it cannot.

    A browser of this machine can be sent here by a foreign page whose name leads to a loopback address (DNS
    rebinding), and a proxy on it asks for others: the first shows in the header Host, the other in what it adds.
    """
    if not is_loopback(request.environ.get("SERVER_NAME", "")):
        return "this server listens beyond its own machine"
    if not is_loopback(request.environ.get("REMOTE_ADDR", "")) or any(name in request.headers for name in PASSED_ON):
        return "the request comes from another machine, or by way of a proxy"
    if not is_loopback(name_in(request.host)):
        return "this server was called by another name than localhost or 127.0.0.1"
    return ""


def name_in(host: str) -> str:
    """The name or address in a header Host, without the port; "" for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(address: str) -> bool:
    """Whether only this machine can be there."""
    if address == "localhost" or address.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
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


def signed_in() -> ApiKey | None:
    """Whoever signed in with this browser, unless their key is gone."""
    named: str | None = session.get(SIGNED_IN)
    return keys().known(named) if named else None


def keys() -> ApiKeys:
    """Those there are."""
    found: ApiKeys = current_app.extensions["keys"]
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
    why = f" ({reason})" if (reason := why_required()) else ""
    raise Unauthorized(f"{said}send `Authorization: Bearer KEY`, or sign in{why}", www_authenticate=how)


def for_admins(view: Callable[P, R]) -> Callable[P, R]:
    """A view that only admins may see: 403 for others."""

    @functools.wraps(view)
    def guarded(*args: P.args, **named: P.kwargs) -> R:
        if not who().admin:
            abort(403, "this is for admins: `memoaized key add NAME --role admin` makes a key for one")
        return view(*args, **named)

    return guarded
