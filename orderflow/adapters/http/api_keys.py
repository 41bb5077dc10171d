"""API keys: who may call intake and query. The key file has only the SHA-256 of each key.

    [[keys]]
    name = "storefront"
    sha256 = "64 hexadecimal digits"
    stages = ["intake"]
    sources = ["/shop/*"]             # CloudEvent sources that this key may send as; without it: any source
    kinds = ["placed", "cancelled"]   # kinds of event that this key may send; without it: any kind
    owner = "shop-1"                  # sends for this owner's orders only; without it: for all orders
    act = true                        # query: may replay, edit, hold and so on; without it: may only read
    requests_per_second = 50          # intake: limits of this client in each pod; without one of them: no such limit
    burst = 100                       # requests at once, after a pause; default: those of one second
    bytes_per_second = 1000000        # of bodies
    in_flight = 100                   # requests at the same time

A client is a name. While a key is replaced, a client has two keys: entries of one name that differ in sha256 alone.

A plain SHA-256 is enough. A key is 256 random bits, so nobody can guess it, however fast the hash is; a password that
a person chose would need a slow hash. A slow hash would only add cost to every request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from orderflow import settings
from orderflow.adapters.http.quotas import Quota
from orderflow.domain.authority import CODE as NOT_AUTHORISED
from orderflow.domain.authority import Kinds, OwnerName
from orderflow.domain.orders import Frozen
from orderflow.errors import BadSettingsError, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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
    kinds: Kinds | None = None
    owner: OwnerName | None = None
    act: bool = False
    requests_per_second: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    bytes_per_second: Annotated[int, Field(ge=1, le=10**12)] | None = None
    in_flight: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _burst_has_a_rate(self) -> Self:
        if self.burst is not None and self.requests_per_second is None:
            raise PydanticCustomError("burst", "burst needs requests_per_second")
        return self

    @property
    def quota(self) -> Quota | None:
        limits = (self.requests_per_second, self.burst, self.bytes_per_second, self.in_flight)
        return None if not any(limits) else Quota(*limits)


class KeyFile(Frozen):
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: a key, or a person who logged in at the console. sources are fnmatch patterns, None
    allows any source. permissions are those at query. kinds are kinds of event, None allows any kind. owner is whose
    orders the caller may send events for, None allows all orders."""

    name: str
    sources: tuple[str, ...] | None = None
    permissions: frozenset[Permission] = READING_KEY
    person: bool = False
    kinds: tuple[str, ...] | None = None
    owner: str | None = None
    quota: Quota | None = None

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def may_send(self, source: str) -> bool:
        """Whether this caller may send events of that CloudEvent source."""
        return self.sources is None or any(fnmatchcase(source, pattern) for pattern in self.sources)

    def refusal(self, kind: str, owner: str | None) -> Reason | None:
        """Why this caller may not send events of this kind for orders of this owner (None: of no owner); None where it
        may. The shop's rules may refuse more."""
        if self.kinds is not None and kind not in self.kinds:
            return Reason(NOT_AUTHORISED, "type", f"this API key may not send {kind}")
        if self.owner is not None and owner != self.owner:
            text = f"this API key may send {kind} for orders of {self.owner} only"
            return Reason(NOT_AUTHORISED, "subject", text)
        return None


LOCAL: Final = Principal("local", permissions=ACTING_KEY)
"""Every caller of a local run without keys."""


class ApiKeys:
    """Authenticates callers by the API keys of one stage. Without keys, every caller is LOCAL."""

    def __init__(self, keys: Sequence[Key] | None) -> None:
        self._keys = keys

    @classmethod
    def from_settings(
        cls, config: settings.ApiKeySettings, stage: str, owners: Collection[str] | None = None
    ) -> ApiKeys:
        """owners are those of the shop's rules; None does not check the owners of keys.

        Raises BadSettingsError where the key file is missing or unreadable, where a key of it cannot be right, or where
        no key is for that stage.
        """
        if config.api_keys_file is None:
            if config.local_run:
                return cls(None)
            raise BadSettingsError(
                f"{SETTING}: required; `python -m orderflow.commands.api_keys NAME` makes a key"
                " (LOCAL_RUN=true serves without keys, on one's own machine only)"
            )
        keys = settings.read_toml(KeyFile, config.api_keys_file, SETTING).keys
        if fault := _fault(keys) or _unknown_owner(keys, owners):
            raise BadSettingsError(f"{SETTING}: {config.api_keys_file}: {fault}")
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
                principal = Principal(
                    key.name,
                    key.sources,
                    ACTING_KEY if key.act else READING_KEY,
                    kinds=key.kinds,
                    owner=key.owner,
                    quota=key.quota,
                )
        return principal


def _fault(keys: Sequence[Key]) -> str:
    """What cannot be right, for an error message; empty where all is well."""
    if len({key.sha256 for key in keys}) < len(keys):
        return "two keys have the same sha256"
    of_client: dict[str, Key] = {}
    for key in keys:
        first = of_client.setdefault(key.name, key)
        for field in Key.model_fields:
            if field != "sha256" and getattr(key, field) != getattr(first, field):
                return f"two keys of the name {key.name} differ in {field}; keys of one client differ in sha256 only"
    return ""


def _unknown_owner(keys: Sequence[Key], owners: Collection[str] | None) -> str:
    for key in keys:
        if owners is not None and key.owner is not None and key.owner not in owners:
            return f"the key {key.name}: owner: the rules have no owner {key.owner} in [authority]"
    return ""


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
    name: str,
    stages: Sequence[str],
    sources: Sequence[str] | None = None,
    *,
    kinds: Sequence[str] | None = None,
    owner: str | None = None,
    act: bool = False,
    quota: Quota | None = None,
) -> tuple[str, Key]:
    """A key and its entry for the key file. Raises pydantic's ValidationError for an invalid name, stage, kind, owner
    or limit."""
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    entry = {
        "name": name,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "stages": tuple(stages),
        "sources": sources and tuple(sources),
        "kinds": kinds and tuple(kinds),
        "owner": owner,
        "act": act,
    }
    return key, Key.model_validate(entry | ({} if quota is None else asdict(quota)))


def toml(key: Key) -> str:
    def array(values: Sequence[str]) -> str:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"

    lines = ["[[keys]]", f'name = "{key.name}"', f'sha256 = "{key.sha256}"', f"stages = {array(key.stages)}"]
    if key.sources is not None:
        lines.append(f"sources = {array(key.sources)}")
    if key.kinds is not None:
        lines.append(f"kinds = {array(key.kinds)}")
    if key.owner is not None:
        lines.append(f'owner = "{key.owner}"')
    if key.act:
        lines.append("act = true")
    if key.quota is not None:
        limits = asdict(key.quota)
        lines += [
            f"{name} = {limit:g}" if isinstance(limit, float) else f"{name} = {limit}"
            for name, limit in limits.items()
            if limit is not None
        ]
    return "\n".join(lines) + "\n"
