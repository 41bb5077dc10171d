"""An issuer of OIDC tokens: real keys, and a real HTTP server for its discovery document and its public keys."""

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEYS = "/openid/v1/jwks"
DISCOVERY = "/.well-known/openid-configuration"


class Issuer:
    """Signs with the key `kid`. reader: the bearer token without which no document is served. Where available is false,
    every answer is a 500."""

    def __init__(self, reader: str | None = None) -> None:
        self._private: dict[str, rsa.RSAPrivateKey] = {}
        self.kid = ""
        self.available = True
        self.requests: list[str] = []
        self.reader = reader
        self.rotate("first")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def rotate(self, kid: str) -> None:
        """A new key is the only one that is published."""
        self.kid = kid
        self._private = {kid: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    def public_pem(self) -> bytes:
        key = self._private[self.kid].public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def claims(self, audience: str, subject: str, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": [audience],
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
        }
        return claims | changes

    def sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), self._private[self.kid], algorithm="RS256", headers={"kid": self.kid})

    def document(self, path: str) -> dict[str, Any]:
        if path == DISCOVERY:
            return {"issuer": self.url, "jwks_uri": self.url + KEYS}
        algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
        return {
            "keys": [
                algorithm.to_jwk(private.public_key(), as_dict=True)
                | {"kid": kid, "alg": "RS256", "use": "sig"}
                for kid, private in self._private.items()
            ]
        }


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.requests.append(self.path)
            reads = issuer.reader is None or self.headers.get("Authorization") == f"Bearer {issuer.reader}"
            status = 200 if issuer.available and reads else 500 if reads else 401
            media_type = "application/jwk-set+json" if self.path == KEYS else "application/json"
            if status == 200 and media_type not in self.headers.get("Accept", ""):
                status = 406  # as Kubernetes' API server
            body = json.dumps(issuer.document(self.path)).encode() if status == 200 else b"{}"
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
