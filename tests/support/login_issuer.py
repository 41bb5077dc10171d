"""An OpenID Connect issuer on loopback: it checks client, redirect address, code and PKCE, and signs any claims."""

import base64
import contextlib
import hashlib
import html
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey
from typing_extensions import override

CLIENT_ID = "console"
CLIENT_SECRET = "not-a-secret"

Claims = dict[str, Any]


@dataclass
class Issuer:
    """people: the claims of each user name that may log in. alter: what becomes of an ID token's claims before they
    are signed with signing_key. requests: the parameters of every authorisation request."""

    address: str
    people: dict[str, Claims] = field(default_factory=dict)
    alter: Callable[[Claims], Claims] = lambda claims: claims
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    signing_key: RSAKey | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def environment(self, console: str, **roles: list[str]) -> dict[str, str]:
        """The settings of a console at that address."""
        return {
            "CONSOLE_OIDC_ISSUER": self.address,
            "CONSOLE_OIDC_CLIENT_ID": CLIENT_ID,
            "CONSOLE_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "CONSOLE_OIDC_ROLES": json.dumps(roles),
            "CONSOLE_SESSION_SECRET": "s" * 32,
            "PUBLIC_URL": console,
        }

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/jwks",
            "end_session_endpoint": f"{self.address}/logout",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def code(self, name: str, asked: dict[str, str]) -> str:
        code = secrets.token_urlsafe(16)
        self.codes[code] = (name, asked)
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return 401, {"error": "invalid_client"}
        name, asked = self.codes.pop(form.get("code", ""), ("", {}))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if not name or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        times = {"iat": now, "exp": now + 300}
        claims = {
            "iss": self.address,
            "aud": CLIENT_ID,
            "sub": f"sub-{name}",
            "nonce": asked["nonce"],
            **times,
        }
        key = self.signing_key or self.key
        signed = jwt.encode({"alg": "RS256", "kid": key.kid}, self.alter(claims | self.people[name]), key)
        return 200, {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": signed}


@contextlib.contextmanager
def issuer() -> Iterator[Issuer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    opened = Issuer(f"http://127.0.0.1:{server.server_port}")
    _Handler.issuers[server.server_port] = opened
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield opened
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    issuers: dict[int, Issuer] = {}  # noqa: RUF012 - one for each server of the process

    @property
    def issuer(self) -> Issuer:
        return self.issuers[self.server.server_address[1]]  # type: ignore[index]

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        if path == "/.well-known/openid-configuration":
            self._json(200, self.issuer.metadata())
        elif path == "/jwks":
            self._json(200, {"keys": [self.issuer.key.as_dict(private=False)]})
        elif path == "/authorize":
            self.issuer.requests.append(asked)
            self._page(
                "".join(
                    f'<p><a href="{html.escape(self.issuer.code(name, asked))}">{html.escape(name)}</a></p>'
                    for name in self.issuer.people
                )
            )
        else:
            self._page("<p>Logged out at the issuer</p>")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self._json(*self.issuer.token(form, self.headers.get("Authorization", "")))

    def _json(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _page(self, text: str) -> None:
        icon = '<link rel="icon" href="data:,">'
        self._send(200, "text/html", f"<!doctype html><title>Issuer</title>{icon}{text}".encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


class Visitor:
    """A browser's part of a login, without a browser."""

    def __init__(self, client: Any, known: Issuer) -> None:
        """client: Werkzeug's test client of the console."""
        self.client = client
        self._issuer = known

    def asks(self, path: str = "/orders") -> dict[str, str]:
        """The parameters with which opening a page sends the browser to the issuer."""
        first = self.client.get(path, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        assert first.status_code == 303, first.text
        assert first.location.startswith("/login?"), first.location
        second = self.client.get(first.location)
        assert second.status_code == 303, second.text
        return dict(parse_qsl(urlsplit(second.location).query))

    def answers(self, name: str, asked: dict[str, str]) -> Any:
        """The console's response to the issuer's redirect after that person has logged in."""
        address = urlsplit(self._issuer.code(name, asked))
        return self.client.get(f"{address.path}?{address.query}")

    def logs_in(self, name: str, path: str = "/orders") -> Self:
        done = self.answers(name, self.asks(path))
        assert done.status_code == 303, done.text
        return self
