"""The page where people sign in with an API key, and the sessions that keep them signed in."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, current_app, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from jobs.sessions import SESSION_SECONDS
from memo import Unavailable
from web.auth import (
    CSRF_FIELD,
    SESSION_ID,
    check_csrf_token,
    cookie_name,
    current_user,
    keys_required,
    why_keys_required,
)
from web.extensions import api_keys, sessions

bp = Blueprint("sign_in", __name__)

LONGEST_TARGET = 2000  # characters; `urlsplit` needs four times as long for twice as many accents


@bp.get("/sign-in")
def page() -> ResponseReturnValue:
    """The sign-in form; where no key is required, redirects to the page that it would lead to."""
    target = local_target(request.args.get("next", ""))
    return sign_in_form(target) if keys_required() else redirect(target)


@bp.post("/sign-in")
def submit() -> ResponseReturnValue:
    """Start a session if the key is valid."""
    target = local_target(request.form.get("next", ""))
    if not keys_required():
        return redirect(target, 303)
    check_csrf_token()
    key = api_keys().find(request.form.get("key", "").strip())
    if key is None:
        return sign_in_form(target, invalid=True), 401
    end_session()  # an attacker may have prepared the old one
    session.permanent = True
    session[SESSION_ID] = sessions().begin(key)
    return redirect(target, 303)


def sign_in_form(target: str, *, invalid: bool = False) -> str:
    """The form that leads on to `target`; with `invalid` it says that the key was not valid."""
    return render_template("sign-in.html", next=target, invalid=invalid, why=why_keys_required())


@bp.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End this browser's session, and with it every copy of its cookie."""
    end_session()
    return redirect(url_for("sign_in.page"), 303)


def end_session() -> None:
    """End the session that this browser's cookie names, if any, and empty the cookie. Raises Unavailable."""
    if session_id := session.get(SESSION_ID):
        sessions().end(session_id)
    if session:  # there is none to be cleared where no key is required
        session.clear()


def local_target(target: str) -> str:
    """The path if it is one of this server, else the start page: a link must not redirect to another site."""
    if len(target) > LONGEST_TARGET:
        return url_for("create.page")
    parts = urlsplit(target.replace("\\", "/"))
    local = not parts.scheme and not parts.netloc and target.startswith("/")
    return target if local and not target.startswith("//") and target.isprintable() else url_for("create.page")


def register(app: Flask) -> None:
    """Set up sessions, and the CSRF token that the forms of signed-in users carry."""
    app.session_interface = KeySessions()
    app.config.from_mapping(
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=SESSION_SECONDS),
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a form may stay open overnight
    )
    app.jinja_env.globals.update(
        csrf_field=csrf_field, csrf_token=csrf_token, signed_in=signed_in, current_user=current_user
    )


def signed_in() -> bool:
    """Whether this page is shown to a user who signed in with this browser."""
    return SESSION_ID in session and current_user().key is not None


def csrf_token() -> str:
    """The session's token. Raises Unavailable when the secret that signs sessions cannot be read."""
    if not current_app.secret_key:
        api_keys().signing_secret()
    return str(generate_csrf())


def csrf_field() -> Markup:
    """The token as a hidden field for signed-in users; nothing for others, whose browser sends no session."""
    if not signed_in():
        return Markup("")
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, csrf_token())


class KeySessions(SecureCookieSessionInterface):
    """Sessions in signed cookies, secure if the request came by https. Where no key is required, there are none."""

    def open_session(self, app: Flask, request: Any) -> Any:
        """See SessionInterface."""
        return super().open_session(app, request) if keys_required() else self.make_null_session(app)

    def get_signing_serializer(self, app: Flask) -> Any:
        """See SecureCookieSessionInterface; the secret is read on first use."""
        if not app.secret_key:
            try:
                app.secret_key = api_keys().signing_secret()
            except Unavailable:
                return None  # without the secret nobody is signed in
        return super().get_signing_serializer(app)

    def get_cookie_name(self, app: Flask) -> str:
        """See SessionInterface."""
        return cookie_name(super().get_cookie_name(app))

    def get_cookie_secure(self, app: Flask) -> bool:
        """See SessionInterface."""
        return request.is_secure
