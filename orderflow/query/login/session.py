"""The session of a person: a signed cookie with the name and the permissions, and no token of the issuer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, get_args

from flask import session

from orderflow.adapters.http.api_keys import Principal
from orderflow.settings import Permission

if TYPE_CHECKING:
    from flask import Flask

    from orderflow.settings import LoginSettings

_PERSON: Final = "person"
_PERMISSIONS: Final = "permissions"
_LOGIN: Final = "_state_"
"""How the keys of logins in progress begin; Authlib writes them."""
_MAX_LOGINS: Final = 4
"""Logins in progress in one browser. Each takes about 300 bytes of a cookie, which has room for 4096."""


def configure(app: Flask, settings: LoginSettings) -> None:
    app.secret_key = settings.session_secret.get_secret_value()
    app.config.update(
        # A browser takes a cookie with this prefix only over HTTPS, for all paths and from this host itself.
        SESSION_COOKIE_NAME="__Host-orderflow" if settings.secure else "orderflow",
        SESSION_COOKIE_SECURE=settings.secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        # The cookie is signed at the login only, so that a session ends at a fixed time, however it is used.
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=settings.session_hours),
    )


def begin(person: Principal) -> None:
    """Replaces whatever session the browser had."""
    session.clear()
    session.permanent = True
    session[_PERSON] = person.name
    session[_PERMISSIONS] = sorted(person.permissions)


def end() -> None:
    session.clear()


def current() -> Principal | None:
    """The person of this request's session. Flask has checked the cookie's signature and age."""
    name, permissions = session.get(_PERSON), session.get(_PERMISSIONS)
    if not isinstance(name, str) or not isinstance(permissions, list):
        return None
    known = frozenset(each for each in get_args(Permission) if each in permissions)
    return Principal(name, permissions=known, person=True)


def limit_logins() -> None:
    """Forgets the oldest logins in progress. A new one can be added then."""
    logins = sorted((key for key in session if key.startswith(_LOGIN)), key=lambda key: session[key]["exp"])
    for key in logins[: 1 - _MAX_LOGINS] if len(logins) >= _MAX_LOGINS else ():
        session.pop(key)
