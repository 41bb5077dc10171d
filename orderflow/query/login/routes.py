"""Log in at an OpenID Connect issuer, and out: the authorisation code flow with PKCE, state and nonce, by Authlib."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.flask_client import OAuth
from flask import Blueprint, g, redirect, render_template, request
from flask import session as flask_session
from joserfc.errors import JoseError
from requests import RequestException

from orderflow.errors import ForbiddenError, TransientError
from orderflow.query import requests
from orderflow.query.login import session
from orderflow.query.login.people import person
from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Collection

    from flask import Flask
    from werkzeug.wrappers import Response

    from orderflow.settings import LoginSettings

log = logging.getLogger(__name__)

_ISSUER: Final = "issuer"
_TIMEOUT_SECONDS: Final = 5.0
_LEEWAY_SECONDS: Final = 60
"""How far the issuer's clock may differ."""
_LOCAL_PATH: Final = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]{0,399}")
"""A path on this site. A browser reads `//host` and `/\\host` as another site."""


def blueprint(app: Flask, settings: LoginSettings, key_names: Collection[str]) -> Blueprint:
    session.configure(app, settings)
    login = _Login(app, settings, key_names)
    routes = Blueprint("login", "orderflow.query.login.routes")
    routes.get("/login")(login.start)
    routes.get("/login/callback")(login.finish)
    routes.post("/logout")(login.end)
    return routes


class _Login:
    def __init__(self, app: Flask, settings: LoginSettings, key_names: Collection[str]) -> None:
        self._settings = settings
        self._key_names = key_names
        self._issuer = OAuth(app).register(
            _ISSUER,
            client_id=settings.client_id,
            client_secret=settings.client_secret.get_secret_value(),
            server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": settings.scopes,
                "code_challenge_method": "S256",
                "default_timeout": _TIMEOUT_SECONDS,
            },
            user_agent=user_agent("orderflow"),
        )

    def start(self) -> Response:
        callback = f"{self._settings.public_url}/login/callback"
        try:
            login = self._issuer.create_authorization_url(callback)
        except (RequestException, RuntimeError, ValueError) as error:
            raise _unavailable(error) from None
        session.limit_logins()
        address = login.pop("url")
        path = local_path(request.args.get("next"))
        self._issuer.save_authorize_data(redirect_uri=callback, path=path, **login)
        return redirect(address, 303)

    def finish(self) -> Response:
        """Raises ForbiddenError where the issuer's response or its ID token is not what this login asked for."""
        data = self._issuer.framework.get_state_data(flask_session, request.args.get("state"))
        if data is None and session.current() is not None:
            return redirect("/", 303)  # another window of this browser has logged in meanwhile
        try:
            token = self._issuer.authorize_access_token(
                claims_options={
                    "iss": {"essential": True, "value": self._settings.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                },
                leeway=_LEEWAY_SECONDS,
            )
        except RequestException as error:
            raise _unavailable(error) from None
        except (AuthlibBaseError, JoseError, ValueError, RuntimeError) as error:
            raise _refused(type(error).__name__) from None
        claims: dict[str, Any] | None = token.get("userinfo")
        if claims is None:
            raise _refused("no ID token")
        principal = person(claims, self._settings.roles, self._settings.roles_claim, self._key_names)
        session.begin(principal)
        log.info(
            "logged in",
            extra={
                "client": principal.name,
                "subject": claims["sub"],
                "permissions": sorted(principal.permissions),
            },
        )
        return redirect(local_path(data["path"]), 303)

    def end(self) -> str:
        requests.check_same_site(page=True)
        session.end()
        g.pop("principal", None)
        return render_template("logged_out.html", issuer_logout=self._issuer_logout())

    def _issuer_logout(self) -> str | None:
        """The address at which the issuer ends its own session, None where it has none."""
        try:
            address: str = self._issuer.create_logout_url(client_id=self._settings.client_id)["url"]
        except (RequestException, RuntimeError, ValueError):
            return None
        return address


def local_path(path: str | None) -> str:
    """The path, or `/` where it does not lead to a page of this site."""
    return path if path is not None and _LOCAL_PATH.fullmatch(path) else "/"


def _unavailable(error: Exception) -> TransientError:
    log.warning("issuer unavailable", extra={"error": type(error).__name__})
    return TransientError("the issuer of CONSOLE_OIDC_ISSUER does not answer")


def _refused(cause: str) -> ForbiddenError:
    log.warning("login refused", extra={"cause": cause})
    return ForbiddenError("The login failed; log in again, from the console's own address", "login_failed")
