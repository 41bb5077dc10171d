"""Who may call a stage from outside: API keys, of which only the SHA-256 is on file.

    [[keys]]
    name = "storefront"
    sha256 = "64 hexadecimal digits"
    stages = ["intake"]
    sources = ["/shop/*"]   # CloudEvent sources that this key may send as; left out: any
    act = true              # may replay, edit, hold and so on through query; left out: may only read

A plain SHA-256 is enough, and a slow hash would only cost every request: a key is 256 random bits, which
nobody can guess through however fast a hash, unlike a password that a person chose.
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

SETTING: Final = "API_KEYS_FILE"
CHALLENGE: Final = 'Basic realm="Orderflow", charset="UTF-8", Bearer realm="Orderflow"'
"""The WWW-Authenticate of a 401: Basic makes a browser ask."""

_PREFIX: Final = "ofk_"  # lets scanners of repositories and logs know a key that leaked
_KEY_BYTES: Final = 32
_LONGEST: Final = 1024


class Key(Frozen):
    """name has no colon, for HTTP Basic ends it there."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    stages: Annotated[tuple[Literal["intake", "query"], ...], Field(min_length=1)]
    sources: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    act: bool = False


class KeyFile(Frozen):
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls. sources are patterns as fnmatch reads them; None stands for any source. act: may this client do
    what operators do, or only look?"""

    name: str
    sources: tuple[str, ...] | None = None
    act: bool = False

    def may_send(self, source: str) -> bool:
        """May this client send events of that CloudEvent source?"""
        return self.sources is None or any(fnmatchcase(source, pattern) for pattern in self.sources)


LOCAL: Final = Client("local", act=True)
"""Whoever calls a local run without keys."""


class Door:
    """Knows its clients by the keys that open one stage. Without keys everyone is the local client."""

    def __init__(self, keys: Sequence[Key] | None) -> None:
        self._keys = keys

    @classmethod
    def open(cls, config: settings.DoorSettings, stage: str) -> Door:
        """Raises BadSettingsError where the key file is missing, unreadable, or opens nothing of that stage."""
        if config.api_keys_file is None:
            if config.local_run:
                return cls(None)
            raise BadSettingsError(
                f"{SETTING}: required; `python -m orderflow.commands.api_keys NAME` makes a key"
                " (LOCAL_RUN=true serves without keys, on one's own machine only)"
            )
        keys = settings.read_toml(KeyFile, config.api_keys_file, SETTING).keys
        for what, values in (("name", [key.name for key in keys]), ("sha256", [key.sha256 for key in keys])):
            if len(set(values)) < len(values):
                raise BadSettingsError(f"{SETTING}: {config.api_keys_file}: two keys have the same {what}")
        opening = [key for key in keys if stage in key.stages]
        if not opening:
            raise BadSettingsError(f"{SETTING}: {config.api_keys_file}: no key is for {stage}")
        return cls(opening)

    def who(self, headers: Mapping[str, str]) -> Client | None:
        """The client whose key the headers carry; None where they carry none that opens this stage.

        headers are by lower-case name. Taken are `Authorization: Bearer KEY`, `X-API-Key: KEY` and, for
        browsers, HTTP Basic with the key's name as the user and the key as the password.
        """
        if self._keys is None:
            return LOCAL
        name, key = _presented(headers)
        if not key:
            return None
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        found = None
        # Every key is looked at, the right one or not, so that the time taken tells nothing.
        for known in self._keys:
            if hmac.compare_digest(known.sha256, digest) and name in {None, known.name}:
                found = Client(known.name, known.sources, known.act)
        return found


def _presented(headers: Mapping[str, str]) -> tuple[str | None, str]:
    """The key's name, where the way of sending it has one, and the key; the key is empty where there is none."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    credentials = rest.strip()
    if len(credentials) > _LONGEST:
        return None, ""
    if scheme.lower() == "bearer":
        return None, credentials
    if scheme.lower() == "basic":
        try:
            name, colon, key = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            return None, ""
        return name, key if colon else ""
    return None, headers.get("x-api-key", "")[:_LONGEST].strip()


def new_key(
    name: str, stages: Sequence[str], sources: Sequence[str] | None = None, *, act: bool = False
) -> tuple[str, Key]:
    """A key and its entry for the file. Raises pydantic's ValidationError for a name or stage that is none."""
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = {"name": name, "sha256": digest, "stages": tuple(stages), "sources": sources and tuple(sources)}
    return key, Key.model_validate(entry | {"act": act})


def toml(key: Key) -> str:
    def texts(values: Sequence[str]) -> str:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"

    lines = ["[[keys]]", f'name = "{key.name}"', f'sha256 = "{key.sha256}"', f"stages = {texts(key.stages)}"]
    if key.sources is not None:
        lines.append(f"sources = {texts(key.sources)}")
    if key.act:
        lines.append("act = true")
    return "\n".join(lines) + "\n"
