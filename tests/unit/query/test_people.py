"""The name and the permissions that an ID token's claims give."""

from typing import Any

import pytest

from orderflow.query.login.people import person
from orderflow.settings import Permission

ROLES: dict[str, tuple[Permission, ...]] = {"support": ("read",), "operators": ("act", "reveal")}
CLAIMS = {"iss": "https://issuer.example", "sub": "s-1"}


def permissions(claims: dict[str, Any], claim: str = "roles") -> set[str]:
    return set(person(CLAIMS | claims, ROLES, claim, ()).permissions)


@pytest.mark.parametrize(
    ("claims", "claim", "expected"),
    [
        ({"roles": ["support"]}, "roles", {"read"}),
        ({"roles": ["operators"]}, "roles", {"read", "act", "reveal"}),
        ({"roles": "support"}, "roles", {"read"}),
        ({"roles": ["read", "act", "Support"]}, "roles", set()),
        ({"roles": {"support": True}}, "roles", set()),
        ({"roles": [["support"], 1, None]}, "roles", set()),
        ({}, "roles", set()),
        ({"realm_access": {"roles": ["support"]}}, "realm_access.roles", {"read"}),
        ({"realm_access": "support"}, "realm_access.roles", set()),
        ({"https://shop.example/roles": ["support"]}, "https://shop.example/roles", {"read"}),
    ],
)
def test_the_values_of_the_claim_give_the_permissions(
    claims: dict[str, Any], claim: str, expected: set[str]
) -> None:
    assert permissions(claims, claim) == expected


def test_an_address_that_is_not_verified_gives_neither_a_name_nor_a_role() -> None:
    claims = CLAIMS | {"email": "support", "email_verified": False, "preferred_username": "anna"}
    somebody = person(claims, ROLES, "email", ())
    assert (somebody.name, somebody.permissions) == ("anna", frozenset())


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "anna@shop.example", "preferred_username": "anna"}, "anna@shop.example"),
        ({"email": "anna+shop@shop.example", "preferred_username": "anna"}, "anna"),
        ({"preferred_username": "desk"}, "s-1"),
        ({"email": "x" * 65}, "s-1"),
        ({"email": ["anna@shop.example"]}, "s-1"),
    ],
)
def test_the_name_is_one_that_an_event_can_hold_and_that_no_key_has(
    claims: dict[str, Any], name: str
) -> None:
    assert person(CLAIMS | claims, ROLES, "roles", {"desk"}).name == name


def test_two_people_whose_names_an_event_cannot_hold_have_different_names() -> None:
    names = {person(CLAIMS | {"sub": sub}, ROLES, "roles", ()).name for sub in ("auth0|a", "auth0|b")}
    assert len(names) == 2
