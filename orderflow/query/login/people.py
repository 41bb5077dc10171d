"""Who logged in: the name and the permissions that an ID token's claims give."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from orderflow.adapters.http.api_keys import Principal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from orderflow.settings import Permission

_NAME: Final = re.compile(r"[A-Za-z0-9@._-]{1,64}")
"""The form of an operator's name in an event (`Operator` in orderflow/actions/events.py)."""


def person(
    claims: Mapping[str, Any],
    roles: Mapping[str, tuple[Permission, ...]],
    roles_claim: str,
    key_names: Collection[str],
) -> Principal:
    """claims are those of a verified ID token. key_names: the names of API keys, which no person may have."""
    trusted = dict(claims)
    if trusted.get("email_verified") is False:
        trusted.pop("email", None)
    permissions: set[Permission] = set()
    for value in _values(_claim(trusted, roles_claim)):
        permissions.update(roles.get(value, ()))
    if permissions:
        permissions.add("read")
    return Principal(_name(trusted, key_names), permissions=frozenset(permissions), person=True)


def _name(claims: Mapping[str, Any], key_names: Collection[str]) -> str:
    """The e-mail address, else the user name, else the subject. Where none of them fits an event, the subject's hash:
    a name with other characters replaced might be somebody else's."""
    for claim in ("email", "preferred_username", "sub"):
        name = claims.get(claim)
        if isinstance(name, str) and _NAME.fullmatch(name) and name not in key_names:
            return name
    subject = f"{claims['iss']}\n{claims['sub']}"
    return "person-" + hashlib.sha256(subject.encode()).hexdigest()[:32]


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """The claim of that name. Where there is none, the name is a path into objects, such as `realm_access.roles`."""
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _values(claim: object) -> list[str]:
    each = claim if isinstance(claim, list) else [claim]
    return [value for value in each if isinstance(value, str)]
