"""Verifies OIDC tokens with PyJWT. Only stages that verify senders import this module: the import makes a start from
zero slower."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

import jwt

from orderflow.adapters.http.oidc import SenderRefusedError
from orderflow.errors import BadSettingsError, TransientError
from orderflow.messaging.deadline import time_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from orderflow.settings import TokenRules

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key. Neither `none` nor HS256, for which a public key would serve as the secret."""
CLAIMS: Final = ("exp", "iss", "aud", "sub")
LEEWAY_SECONDS: Final = 10
"""By how much the clocks of issuer and stage may differ."""
REFETCH_SECONDS: Final = 5.0
"""A key id that is not known fetches the keys again, but no sooner than this after the last attempt."""
REFRESH_SECONDS: Final = 300.0
"""The age from which keys are fetched again, so that a key that the issuer has withdrawn is forgotten."""
KEEP_SECONDS: Final = 3600.0
"""The age up to which keys are used while the issuer cannot be reached."""
FETCH_SECONDS: Final = 5.0
MAX_DOCUMENT: Final = 256 * 1024
"""The largest document of an issuer, in bytes."""
_ACCEPT: Final = "application/jwk-set+json, application/json"
"""Kubernetes answers a request for its keys with 406 where it may not answer with the first of these."""
_DISCOVERY: Final = "/.well-known/openid-configuration"

Fetch: TypeAlias = "Callable[[], Awaitable[Mapping[str, jwt.PyJWK]]]"


class TokenVerifier:
    """Accepts a token that the issuer signed for this audience and one of these subjects, and that is valid now."""

    def __init__(self, rules: TokenRules, keys: SigningKeys) -> None:
        self._rules = rules
        self._keys = keys

    async def verify(self, token: str) -> None:
        """Raises SenderRefusedError, or TransientError where the issuer's keys cannot be fetched.

        The subject is checked because Kubernetes gives any pod a token of its own service account for any audience.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise SenderRefusedError("token_invalid", "the token is no JWT") from None
        key_id = header.get("kid")
        if header.get("alg") not in ALGORITHMS or not isinstance(key_id, str):
            raise SenderRefusedError(
                "token_invalid", "the token names no key or no algorithm that is allowed"
            )
        key = await self._keys.get(key_id)
        if key is None:
            raise SenderRefusedError("token_invalid", "the token names a key that the issuer does not have")
        subject = self._claims(token, key)["sub"]
        if subject not in self._rules.subjects:
            raise SenderRefusedError("subject_forbidden", "the token's subject is not one of OIDC_SUBJECTS")

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(CLAIMS)},
            )
        except jwt.ExpiredSignatureError:
            text = "the token has expired"
        except jwt.ImmatureSignatureError:
            text = "the token is not valid yet"
        except jwt.InvalidAudienceError:
            text = "the token is for another audience than OIDC_AUDIENCE"
        except jwt.InvalidIssuerError:
            text = "the token is of another issuer than OIDC_ISSUER"
        except jwt.InvalidSignatureError:
            text = "the token's signature is not the issuer's"
        except (jwt.PyJWTError, ValueError, TypeError):
            text = "the token is not valid"
        raise SenderRefusedError("token_invalid", text)


class SigningKeys:
    """The issuer's public keys by key id, fetched when they are first needed and kept for a time."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        """fetch raises TransientError. clock is in seconds."""
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._cause = ""
        self._lock = asyncio.Lock()

    async def get(self, key_id: str) -> jwt.PyJWK | None:
        """None where the issuer has no such key. Raises TransientError where the keys cannot be fetched."""
        if not self._is_known(key_id):
            async with self._lock:
                if not self._is_known(key_id) and self._may_fetch():
                    await self._refresh()
        if self._age() > KEEP_SECONDS:
            raise TransientError(self._cause)
        return self._keys.get(key_id)

    def _is_known(self, key_id: str) -> bool:
        return key_id in self._keys and self._age() < REFRESH_SECONDS

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _may_fetch(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= REFETCH_SECONDS

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            self._keys = await self._fetch()
        except TransientError as error:
            self._cause = str(error)
        else:
            self._fetched_at = self._clock()


class KeySetClient:
    """Fetches the keys of an issuer over HTTP, in a thread."""

    def __init__(self, rules: TokenRules) -> None:
        """Raises BadSettingsError where OIDC_CA_FILE is missing or has no certificate."""
        self._rules = rules
        try:
            tls = ssl.create_default_context(cafile=rules.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadSettingsError(f"OIDC_CA_FILE: cannot read {rules.ca_file}: {error.strerror}") from None
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=tls), _NoRedirects())

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        """The keys for signatures, by key id. Raises TransientError, whose message quotes no answer."""
        async with time_limit(2 * FETCH_SECONDS, "the request for the issuer's keys"):
            return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        try:
            url = (
                self._rules.jwks_url
                or self._document(self._rules.issuer.rstrip("/") + _DISCOVERY)["jwks_uri"]
            )
            keys = jwt.PyJWKSet.from_dict(self._document(url)).keys
        except (OSError, ValueError, TypeError, LookupError, AttributeError, jwt.PyJWTError) as error:
            cause = error.code if isinstance(error, HTTPError) else type(error).__name__
            raise TransientError(f"the issuer's keys cannot be fetched: {cause}") from None
        return {key.key_id: key for key in keys if key.key_id and key.public_key_use in {"sig", None}}

    def _document(self, url: str) -> dict[str, Any]:
        headers = {"Accept": _ACCEPT}
        if self._rules.token_file is not None:
            headers["Authorization"] = f"Bearer {_token(self._rules.token_file)}"
        # The URL is a setting that must begin with http:// or https://, or comes from the issuer of the settings.
        if not url.startswith(("http://", "https://")):
            raise ValueError("jwks_uri is no HTTP address")
        with self._opener.open(Request(url, headers=headers), timeout=FETCH_SECONDS) as answer:  # noqa: S310
            document: dict[str, Any] = json.loads(answer.read(MAX_DOCUMENT))
        return document


def _token(file: Path) -> str:
    """Read at each request: Kubernetes replaces the file before the token expires."""
    return file.read_text(encoding="ascii").strip()


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the pod's token to another server."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None
