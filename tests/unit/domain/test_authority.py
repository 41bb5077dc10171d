"""Who may send what for whose orders."""

import tomllib
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orderflow.actions import events
from orderflow.domain.authority import OPERATOR_KINDS, ROLES, Authority, Owner, Sender
from orderflow.domain.events import INBOX
from orderflow.domain.rules import Rules

ROOT = Path(__file__).parents[3]

TWO_SHOPS = Authority.model_validate(
    tomllib.loads(
        """
        [[owners]]
        name = "shop-1"
        order_ids = "s1-"
        [[owners]]
        name = "shop-2"
        order_ids = "s2-"
        [[senders]]
        sources = ["/storefront/shop-1", "/storefront/shop-1/*"]
        kinds = ["placed", "cancelled"]
        owners = ["shop-1"]
        [[senders]]
        sources = ["/storefront/shop-2"]
        kinds = ["placed", "cancelled"]
        owners = ["shop-2"]
        [[senders]]
        sources = ["/payments/acme"]
        kinds = ["authorised", "paid", "declined", "refunded"]
        """
    )
)


def may(source: str, kind: str, order_id: str, authority: Authority = TWO_SHOPS) -> bool:
    return authority.refusal(source, kind, order_id) is None


@pytest.mark.parametrize(
    ("source", "kind", "order_id"),
    [
        ("/storefront/shop-1", "placed", "s1-1"),
        ("/storefront/shop-1/eu", "cancelled", "s1-1"),
        ("/storefront/shop-2", "placed", "s2-1"),
        ("/payments/acme", "paid", "s1-1"),
        ("/payments/acme", "refunded", "s2-1"),
        ("/payments/acme", "paid", "placed-before-there-were-prefixes"),
        ("/orderflow/operators", "held", "s1-1"),
        ("/orderflow/operators", "cancelled", "anything"),
    ],
)
def test_what_an_entry_allows_has_authority(source: str, kind: str, order_id: str) -> None:
    assert may(source, kind, order_id)


@pytest.mark.parametrize(
    ("source", "kind", "order_id"),
    [
        ("/storefront/shop-1", "paid", "s1-1"),
        ("/storefront/shop-1", "released", "s1-1"),
        ("/storefront/shop-1", "placed", "s2-1"),
        ("/storefront/shop-1", "cancelled", "s2-1"),
        ("/storefront/shop-1", "placed", "S1-1"),
        ("/storefront/shop-1", "placed", "xs1-1"),
        ("/storefront/shop-1", "placed", "no-prefix"),
        ("/storefront/shop-1/../shop-2", "placed", "s2-1"),
        ("/storefront/shop-10", "placed", "s1-1"),
        ("/Storefront/shop-1", "placed", "s1-1"),
        ("/storefront/shop-1 ", "placed", "s1-1"),
        ("/storefront/*", "placed", "s1-1"),
        ("/payments/acme", "placed", "s1-1"),
        ("/payments/acme/x", "paid", "s1-1"),
        ("/orderflow/operators", "paid", "s1-1"),
        ("/orderflow/operators/x", "held", "s1-1"),
        ("/nobody", "placed", "s1-1"),
        ("", "placed", "s1-1"),
    ],
)
def test_what_no_entry_allows_has_none(source: str, kind: str, order_id: str) -> None:
    assert not may(source, kind, order_id)


def test_a_refusal_names_the_kind_and_the_owner_and_nothing_of_the_sender() -> None:
    refusal = TWO_SHOPS.refusal("/storefront/shop-1/Zzyzx", "cancelled", "s2-Zzyzx")
    assert refusal is not None
    assert (refusal.code, refusal.field) == ("not_authorised", "source")
    assert refusal.text == "no rule lets this source send cancelled for orders of shop-2"


@given(st.text(max_size=40), st.sampled_from(sorted(INBOX)), st.text(max_size=40))
def test_without_a_table_everything_is_allowed(source: str, kind: str, order_id: str) -> None:
    assert may(source, kind, order_id, Authority())


@given(st.text(alphabet="s12-x", max_size=8))
def test_an_order_has_one_owner_at_most(order_id: str) -> None:
    owners = [each.name for each in TWO_SHOPS.owners if order_id.startswith(each.order_ids)]
    assert owners in ([], [TWO_SHOPS.owner_of(order_id)])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"owners": [Owner(name="a", order_ids="s"), Owner(name="b", order_ids="s1-")]},
            "cannot be told apart",
        ),
        (
            {"owners": [Owner(name="a", order_ids="s-"), Owner(name="b", order_ids="s-")]},
            "cannot be told apart",
        ),
        ({"owners": [Owner(name="a", order_ids="s-"), Owner(name="a", order_ids="t-")]}, "the same name"),
        ({"owners": [{"name": "a", "order_ids": ""}]}, "order_ids"),
        ({"senders": [{"sources": ["/a"], "kinds": ["payed"]}]}, "payed is no kind of event"),
        ({"senders": [{"sources": ["/a"], "kinds": ["accepted"]}]}, "accepted is no kind of event"),
        ({"senders": [{"sources": ["/a"], "kinds": []}]}, "kinds"),
        ({"senders": [{"sources": [], "kinds": ["paid"]}]}, "sources"),
        ({"senders": [{"sources": ["/a"], "kinds": ["paid"], "owners": ["a"]}]}, "there is no owner a"),
        ({"senders": [{"sources": ["/a"], "kinds": ["paid"], "owner": ["a"]}]}, "owner"),
    ],
)
def test_a_table_that_cannot_be_right_is_an_error_that_says_why(
    table: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Authority.model_validate(table)


def test_a_new_order_gets_an_id_with_the_prefix_of_the_one_owner_that_its_source_places_for() -> None:
    assert TWO_SHOPS.prefix_for("/storefront/shop-1", None) == "s1-"
    assert TWO_SHOPS.prefix_for("/storefront/shop-2", "shop-2") == "s2-"
    assert TWO_SHOPS.prefix_for("/nobody", None) == ""
    assert Authority().prefix_for("/nobody", None) == ""
    both = TWO_SHOPS.model_copy(
        update={"senders": (Sender(sources=("/storefront/both",), kinds=("placed",)),)}
    )
    assert both.prefix_for("/storefront/both", "shop-2") == "s2-"
    with pytest.raises(LookupError):
        both.prefix_for("/storefront/both", None)


def test_operators_may_send_what_the_actions_send() -> None:
    assert events.SOURCE == "/orderflow/operators"
    assert set(events.ORDER_KINDS.values()) == OPERATOR_KINDS


def test_every_kind_is_one_roles_or_the_operators() -> None:
    assert sorted(chain(*ROLES.values(), OPERATOR_KINDS - {"cancelled"})) == sorted(INBOX)


def test_the_rules_that_tests_use_are_those_of_the_example_without_authority() -> None:
    example, open_rules = (
        Rules.model_validate(tomllib.loads((ROOT / file).read_text()))
        for file in ("examples/rules.toml", "tests/support/open_rules.toml")
    )
    assert example.authority.senders
    assert open_rules == example.model_copy(update={"authority": Authority()})


@pytest.mark.parametrize(
    ("source", "role"),
    [
        ("/storefront/web", "storefront"),
        ("/shop/web", "storefront"),
        ("/payments/acme", "payment"),
        ("/warehouse/one", "warehouse"),
    ],
)
def test_in_the_example_each_role_sends_its_own_kinds_only(source: str, role: str) -> None:
    authority = Rules.model_validate(tomllib.loads((ROOT / "examples/rules.toml").read_text())).authority
    assert tuple(kind for kind in INBOX if may(source, kind, "o-1", authority)) == tuple(
        kind for kind in INBOX if kind in ROLES[role]
    )
