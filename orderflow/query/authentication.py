"""Who sends a request: an API key or, where people log in, the person of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from flask import Response, redirect, request

from orderflow.adapters.http import api_keys
from orderflow.query import error_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response as AnyResponse

    from orderflow.adapters.http.api_keys import ApiKeys, Principal

ASSETS: Final = frozenset({"static", "bootstrap.static", "dark_css"})
_LOGIN: Final = frozenset({"login.start", "login.finish", "login.end"})
_BEARER: Final = 'Bearer realm="Orderflow"'


class Clients:
    def __init__(self, keys: ApiKeys, person: Callable[[], Principal | None] | None = None) -> None:
        """person: returns who is logged in; None where nobody can log in."""
        self._keys = keys
        self._person = person

    def identify(self) -> Principal | None:
        """A request with a key is the key's, whoever is logged in."""
        if self._person is None or "Authorization" in request.headers or "X-API-Key" in request.headers:
            return self._keys.authenticate({name.lower(): value for name, value in request.headers.items()})
        return self._person()

    def may_be_unknown(self) -> bool:
        """Whether the request is answered without a client: a login, or what its pages look like."""
        return self._person is not None and request.endpoint in _LOGIN | ASSETS

    def unauthorised(self) -> AnyResponse:
        """A person who opens a page goes to the login and comes back; everybody else gets a 401."""
        if self._person is not None and _opens_a_page():
            return redirect(f"/login?next={quote(request.full_path.rstrip('?'), safe='/')}", 303)
        text = (
            "An API key for query is required"
            if self._person is None
            else "An API key or a login is required"
        )
        response: Response = error_handlers.failure(401, "unauthorised", text)
        # A browser would ask for a password on behalf of a script's request.
        ask = self._person is None or "Sec-Fetch-Mode" not in request.headers
        response.headers["WWW-Authenticate"] = api_keys.CHALLENGE if ask else _BEARER
        return response


def _opens_a_page() -> bool:
    return (
        request.method in {"GET", "HEAD"}
        and not error_handlers.is_for_programs()
        and any(kind == "text/html" for kind, _ in request.accept_mimetypes)
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and "Authorization" not in request.headers
        and "X-API-Key" not in request.headers
    )
