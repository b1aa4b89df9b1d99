"""Authentication: who sent a request, and whose jobs and pictures they may see.

Decides whether a request needs an API key, and reads the key from its headers or its session. The page where people
sign in is `web.pages.sign_in`.
"""

import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import abort, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import validate_csrf
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from jobs.api_keys import PREFIX as KEY_PREFIX
from jobs.api_keys import ApiKey
from memo import SHARED

from .extensions import api_keys, sessions, web_config

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_NAME = 128  # characters
VISITOR = "visitor"  # the cookie that recognizes a browser
SESSION_ID = "id"  # in the cookie of a signed-in browser: the id of its session, which Redis knows
PUBLIC_ENDPOINTS = (  # these never need a key
    *("static", "health.health", "health.ready", "sign_in.page", "sign_in.submit", "links.file", "horde.heartbeat"),
)
FORWARDING_HEADER = re.compile(  # names of headers that reverse proxies and content delivery networks add
    r"via|cdn-loop|cf-.+|forwarded|x-forwarded(-.+)?|x-original-.+|(.+-)?(client|connecting|real|remote)-(ip|addr)",
    re.IGNORECASE,
)
DEFAULT_PORT = re.compile(r":(80|443)$")
CROSS_SITE = "requests from pages of other sites are refused"
REALM = "memoAIzed"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"


@dataclass(frozen=True, slots=True)
class User:
    """The person or program behind a request. Jobs and quotas know them by `name`; an admin sees every scope."""

    name: str = ""
    scope: str = SHARED  # the memory that they use
    admin: bool = False
    key: ApiKey | None = None  # the API key that they sent, where one is required

    @property
    def visible_scope(self) -> str | None:
        """The scope whose jobs and pictures they may see; None for every scope."""
        return None if self.admin else self.scope


ANONYMOUS = User(scope="")  # not signed in: no job and no picture is theirs


def current_user() -> User:
    """The user behind this request. Where no key is required, everybody is an admin of the shared memory."""
    user: User | None = g.get("user")
    if user is None and keys_required():
        return ANONYMOUS
    return user or User(visitor(), SHARED, admin=True)


def name_caller() -> str:
    """The name under which this user's requests are counted; users without a key are told apart by their address."""
    key = current_user().key
    return f"key {key.name}" if key else f"address {request.remote_addr}"


def visitor() -> str:
    """The name in this browser's visitor cookie, or ""."""
    return request.cookies.get(cookie_name(VISITOR), "")[:LONGEST_NAME]


def authenticate() -> ResponseReturnValue | None:
    """Set the user of this request, if it needs a key or sends one.

    Without a valid key, a page redirects to the sign-in form and everything else is refused with 401. Where no key is
    needed, text that is not a key is ignored: many clients must send some text, such as `any`.
    """
    if request.endpoint in PUBLIC_ENDPOINTS:
        return None
    sent_key = read_sent_key()
    if not keys_required() and not (sent_key or "").startswith(KEY_PREFIX):
        return None
    key = api_keys().find(sent_key) if sent_key else signed_in_key()
    if key is None:
        return ask_for_key(sent_key)
    g.user = User(key.name, key.scope, key.role == "admin", key)
    if not sent_key:
        check_csrf_token()
    return None


def keys_required() -> bool:
    """Whether this request needs a key. WEB_KEYS=auto requires one unless client and server share one machine."""
    mode = web_config().keys
    return bool(why_not_local()) if mode == "auto" else mode == "required"


def why_keys_required() -> str:
    """Why WEB_KEYS=auto requires a key for this request, and how to switch that off; "" if it does not."""
    reason = why_not_local() if web_config().keys == "auto" else ""
    return f"a key is required because {reason}; set WEB_KEYS=off to require none" if reason else ""


def why_not_local() -> str:
    """Why this request may come from another machine, in words; "" if it cannot.

    A foreign page can make a local browser call this server by a name that resolves to a loopback address (DNS
    rebinding): the Host header reveals that. A reverse proxy on this machine passes on requests of other machines:
    the headers that it adds reveal that.
    """
    if not is_loopback(request.environ.get("SERVER_NAME", "")):
        return "this server listens on more than its loopback address"
    forwarded = any(FORWARDING_HEADER.fullmatch(name) for name in request.headers.keys())
    if forwarded or not is_loopback(request.environ.get("REMOTE_ADDR", "")):
        return "the request comes from another machine or through a proxy"
    if not is_loopback(host_name(request.host)):
        return "the request addresses this server by a name other than localhost or 127.0.0.1"
    return ""


def host_name(host: str) -> str:
    """The name or address in a Host header, without its port; "" if the header is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(address: str) -> bool:
    """Whether a name or an address can only mean this machine."""
    if address == "localhost" or address.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_cross_site() -> bool:
    """Whether a page of another site made a browser send this request.

    Browsers say so in Sec-Fetch-Site, but not to hosts without https, and Safari only since 16.4. Where it is
    missing, Origin must be this host, if it is there: programs send neither.
    """
    if site := request.headers.get("Sec-Fetch-Site"):
        return site in ("cross-site", "same-site")
    origin = request.headers.get("Origin")
    return origin is not None and not is_this_host(origin)


def is_this_host(origin: str) -> bool:
    """Whether an origin, such as https://example.com, is the host that this request addresses."""
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return DEFAULT_PORT.sub("", host.lower()) == DEFAULT_PORT.sub("", request.host.lower())


def is_private() -> bool:
    """Whether the response may show what only its user may see."""
    return request.endpoint != "static" and (g.get("user") is not None or keys_required())


def cookie_name(name: str) -> str:
    """The full name of a cookie. Over https, browsers let no other host of the domain set one with this prefix.

    https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes
    """
    return f"__Host-{name}" if request.is_secure else name


def read_sent_key() -> str | None:
    """The key in the headers: a bearer token (RFC 6750), the password of Basic (RFC 7617), or `apikey`."""
    credentials = request.authorization
    if credentials is not None and credentials.type == "bearer":
        return credentials.token
    if credentials is not None and credentials.type == "basic":
        return credentials.password
    return request.headers.get("apikey")


def signed_in_key() -> ApiKey | None:
    """The key that this browser signed in with; None if nobody did, or signed out, or the key was removed since."""
    session_id: str | None = session.get(SESSION_ID)
    return sessions().find(session_id) if session_id else None


def is_still_permitted() -> bool:
    """Whether the key and the session that this request came with are still valid. Raises Unavailable."""
    key = current_user().key
    if key is None:
        return True
    return (api_keys().find_by_id(key.id) if read_sent_key() else signed_in_key()) is not None


def check_csrf_token() -> None:
    """Abort with 403 if a request that changes something lacks the session's CSRF token.

    Another site can make a browser send its cookies, but cannot read the token.
    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if request.method in ("GET", "HEAD", "OPTIONS", "TRACE"):
        return
    try:
        validate_csrf(request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD), time_limit=None)
    except ValueError as error:
        abort(403, f"this page is out of date; reload it and try again ({error})")


def ask_for_key(sent_key: str | None) -> ResponseReturnValue:
    """Redirect a browser to the sign-in page; raise Unauthorized for everybody else."""
    accepted = request.accept_mimetypes
    if sent_key is None and request.method == "GET" and accepted["text/html"] > accepted["application/json"]:
        return redirect(url_for("sign_in.page", next=request.root_path + request.full_path.rstrip("?")))
    fault = "no key was sent" if sent_key is None else "this key is not valid"
    parameters: dict[str, str | None] = {"realm": REALM, **({"error": "invalid_token"} if sent_key else {})}
    reason = f" ({why})" if (why := why_keys_required()) else ""
    remedy = "send no key, since none is needed"
    if keys_required():
        remedy = f"send the header `Authorization: Bearer KEY`, or sign in{reason}"
    raise Unauthorized(
        f"{fault}: {remedy}",
        www_authenticate=WWWAuthenticate("bearer", parameters),
    )


def admin_required(view: Callable[P, R]) -> Callable[P, R]:
    """A view for admins only; everybody else gets 403."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user().admin:
            abort(403, "only admins may see this; `memoaized key add NAME --role admin` makes an admin's key")
        return view(*args, **kwargs)

    return guarded
