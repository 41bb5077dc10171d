"""API keys: who may call intake and query. The key file has only the SHA-256 of each key.

    [[keys]]
    name = "storefront"
    sha256 = "64 hexadecimal digits"
    stages = ["intake"]
    sources = ["/shop/*"]   # CloudEvent sources that this key may send as; without it: any source
    act = true              # query: may replay, edit, hold and so on; without it: may only read

A plain SHA-256 is enough. A key is 256 random bits, so nobody can guess it, however fast the hash is; a password that
a person chose would need a slow hash. A slow hash would only add cost to every request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints

from orderflow import settings
from orderflow.domain.orders import Frozen
from orderflow.errors import BadSettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow.settings import Permission

SETTING: Final = "API_KEYS_FILE"
CHALLENGE: Final = 'Basic realm="Orderflow", charset="UTF-8", Bearer realm="Orderflow"'
"""WWW-Authenticate of a 401 response. Basic makes a browser ask for a name and a key."""

_PREFIX: Final = "ofk_"  # lets scanners of repositories and logs recognise a leaked key
_KEY_BYTES: Final = 32
_MAX_CREDENTIALS: Final = 1024


READING_KEY: Final[frozenset[Permission]] = frozenset({"read", "reveal"})
"""The permissions of a key. Programs read orders whole, as they did before people could log in."""
ACTING_KEY: Final[frozenset[Permission]] = frozenset({"read", "act", "reveal", "release"})
"""The permissions of a key with `act = true`."""


class Key(Frozen):
    """The name has no colon, because HTTP Basic separates name and password by a colon."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    stages: Annotated[tuple[Literal["intake", "query"], ...], Field(min_length=1)]
    sources: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    act: bool = False


class KeyFile(Frozen):
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: a key, or a person who logged in at the console. sources are fnmatch patterns, None
    allows any source. permissions are those at query."""

    name: str
    sources: tuple[str, ...] | None = None
    permissions: frozenset[Permission] = READING_KEY
    person: bool = False

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def may_send(self, source: str) -> bool:
        """Whether this caller may send events of that CloudEvent source."""
        return self.sources is None or any(fnmatchcase(source, pattern) for pattern in self.sources)


LOCAL: Final = Principal("local", permissions=ACTING_KEY)
"""Every caller of a local run without keys."""


class ApiKeys:
    """Authenticates callers by the API keys of one stage. Without keys, every caller is LOCAL."""

    def __init__(self, keys: Sequence[Key] | None) -> None:
        self._keys = keys

    @classmethod
    def from_settings(cls, config: settings.ApiKeySettings, stage: str) -> ApiKeys:
        """Raises BadSettingsError where the key file is missing or unreadable, or has no key for that stage."""
        if config.api_keys_file is None:
            if config.local_run:
                return cls(None)
            raise BadSettingsError(
                f"{SETTING}: required; `python -m orderflow.commands.api_keys NAME` makes a key"
                " (LOCAL_RUN=true serves without keys, on one's own machine only)"
            )
        keys = settings.read_toml(KeyFile, config.api_keys_file, SETTING).keys
        for field, values in (("name", [key.name for key in keys]), ("sha256", [key.sha256 for key in keys])):
            if len(set(values)) < len(values):
                raise BadSettingsError(f"{SETTING}: {config.api_keys_file}: two keys have the same {field}")
        stage_keys = [key for key in keys if stage in key.stages]
        if not stage_keys:
            raise BadSettingsError(f"{SETTING}: {config.api_keys_file}: no key is for {stage}")
        return cls(stage_keys)

    @property
    def names(self) -> frozenset[str]:
        """The names of this stage's keys; without keys, LOCAL's."""
        return (
            frozenset(key.name for key in self._keys) if self._keys is not None else frozenset({LOCAL.name})
        )

    def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """The owner of the key in the headers; None where the headers have no valid key for this stage.

        headers are by lower-case name. A key may come as `Authorization: Bearer KEY`, as `X-API-Key: KEY` or, for
        browsers, as HTTP Basic with the key's name as the user and the key as the password.
        """
        if self._keys is None:
            return LOCAL
        name, secret = _credentials(headers)
        if not secret:
            return None
        digest = hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
        principal = None
        # The loop compares every key, also after a match, so that the time of the answer reveals nothing.
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest) and name in {None, key.name}:
                principal = Principal(key.name, key.sources, ACTING_KEY if key.act else READING_KEY)
        return principal


def _credentials(headers: Mapping[str, str]) -> tuple[str | None, str]:
    """The key's name (None where the scheme sends no name) and the key (empty where there is none)."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    credentials = rest.strip()
    if len(credentials) > _MAX_CREDENTIALS:
        return None, ""
    if scheme.lower() == "bearer":
        return None, credentials
    if scheme.lower() == "basic":
        try:
            name, colon, key = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            return None, ""
        return name, key if colon else ""
    return None, headers.get("x-api-key", "")[:_MAX_CREDENTIALS].strip()


def new_key(
    name: str, stages: Sequence[str], sources: Sequence[str] | None = None, *, act: bool = False
) -> tuple[str, Key]:
    """A key and its entry for the key file. Raises pydantic's ValidationError for an invalid name or stage."""
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = {"name": name, "sha256": digest, "stages": tuple(stages), "sources": sources and tuple(sources)}
    return key, Key.model_validate(entry | {"act": act})


def toml(key: Key) -> str:
    def array(values: Sequence[str]) -> str:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"

    lines = ["[[keys]]", f'name = "{key.name}"', f'sha256 = "{key.sha256}"', f"stages = {array(key.stages)}"]
    if key.sources is not None:
        lines.append(f"sources = {array(key.sources)}")
    if key.act:
        lines.append("act = true")
    return "\n".join(lines) + "\n"
