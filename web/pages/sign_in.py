"""The page where one signs in with a key, and out again. Knows sessions; whose a key is, `caller` finds out."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, current_app, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from memo import Unavailable
from web.auth import SIGNED_IN, TOKEN_FIELD, check_token, keys, keys_required, who, why_required

bp = Blueprint("people", __name__)

SESSION_DAYS = 30


@bp.get("/sign-in")
def sign_in() -> ResponseReturnValue:
    """The form."""
    target = way_on(request.args.get("next", ""))
    return door(target) if keys_required() else redirect(target)


@bp.post("/sign-in")
def enter() -> ResponseReturnValue:
    """Begin a session if the key is known."""
    target = way_on(request.form.get("next", ""))
    if not keys_required():
        return redirect(target, 303)
    check_token()
    holder = keys().holder(request.form.get("key", "").strip())
    if holder is None:
        return door(target, fault=True), 401
    session.clear()  # nobody can have prepared this one
    session.permanent = True
    session[SIGNED_IN] = holder.id
    return redirect(target, 303)


def door(target: str, *, fault: bool = False) -> str:
    """The form, which leads on to a path of this server; a fault is that the key is not known."""
    return render_template("sign-in.html", next=target, fault=fault, why=why_required())


@bp.post("/sign-out")
def leave() -> ResponseReturnValue:
    """End the session of this browser."""
    session.clear()
    return redirect(url_for("people.sign_in"), 303)


def way_on(target: str) -> str:
    """A path of this server to go on to; the start page for whatever else is given."""
    parts = urlsplit(target.replace("\\", "/"))
    here = not parts.scheme and not parts.netloc and target.startswith("/")
    return target if here and not target.startswith("//") and target.isprintable() else url_for("pages.create")


def register(app: Flask) -> None:
    """Sessions, and the token that every form of whoever is signed in carries."""
    app.session_interface = Sessions()
    app.config.from_mapping(
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        PERMANENT_SESSION_LIFETIME=timedelta(days=SESSION_DAYS),
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a form may lie open over night
    )
    app.jinja_env.globals.update(csrf_field=csrf_field, csrf_value=csrf_value, signed_in=signed_in, who=who)


def signed_in() -> bool:
    """Whether this page is shown to somebody who signed in with this browser."""
    return SIGNED_IN in session and who().holder is not None


def csrf_value() -> str:
    """The session's token. Raises Unavailable while what signs sessions cannot be read."""
    if not current_app.secret_key:
        keys().secret()
    return str(generate_csrf())


def csrf_field() -> Markup:
    """The token as a hidden field, for those whom a browser signs in by itself; nothing for others."""
    if not signed_in():
        return Markup("")
    return Markup('<input type="hidden" name="{}" value="{}">').format(TOKEN_FIELD, csrf_value())


class Sessions(SecureCookieSessionInterface):
    """Signed cookies; over https for https alone. Where no keys are needed there are no sessions."""

    def open_session(self, app: Flask, request: Any) -> Any:
        """See SessionInterface."""
        return super().open_session(app, request) if keys_required() else self.make_null_session(app)

    def get_signing_serializer(self, app: Flask) -> Any:
        """See SecureCookieSessionInterface; the secret is read at first use."""
        if not app.secret_key:
            try:
                app.secret_key = keys().secret()
            except Unavailable:
                return None  # nobody is signed in; without keys nobody could be
        return super().get_signing_serializer(app)

    def get_cookie_secure(self, app: Flask) -> bool:
        """See SessionInterface."""
        return request.is_secure
