"""Validate as a pure function: the shop's rules, and what goes on to the events topic."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import event, order, paid, placed

from orderflow.domain.events import parse
from orderflow.domain.money import MAX_AMOUNT, MINOR_DIGITS, show
from orderflow.domain.orders import Line, Order
from orderflow.domain.rules import Article, Limits, Rules
from orderflow.errors import PoisonError
from orderflow.messaging import inbox_event
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate.handler import validate

RULES = Rules(
    currencies=frozenset({"EUR"}),
    countries=frozenset({"DE"}),
    limits=Limits(lines=2, quantity_per_line=10, order_total={"EUR": 100_000}),
    review={"EUR": 50_000},
    catalogue={"MUG-BLUE": Article(prices={"EUR": 1250}), "GONE": Article(in_stock=False)},
)
LINE = {"sku": "MUG-BLUE", "quantity": 2, "unit_price": 1250}


def judged(**changes: Any) -> tuple[str, set[tuple[str, str]]]:
    verdict = RULES.judge(Order(**order(**changes)))
    assert all(reason.text for reason in verdict.reasons)
    return verdict.kind, {(reason.code, reason.field) for reason in verdict.reasons}


def faults(**changes: Any) -> dict[str, str]:
    """What is wrong with a placed order: field -> code."""
    with pytest.raises(PoisonError) as caught:
        validate(placed("o-1", **changes), RULES)
    return {reason.field: reason.code for reason in caught.value.reasons}


def test_an_order_within_the_rules_is_accepted() -> None:
    assert judged() == ("accepted", set())


def test_a_rejection_carries_every_reason_with_its_field() -> None:
    address = order()["shipping_address"] | {"country": "FR"}
    lines = [
        {"sku": "GONE", "quantity": 11, "unit_price": 100},
        LINE | {"unit_price": 1},
        {"sku": "NONE", "quantity": 1, "unit_price": 200_000},
    ]
    assert judged(currency="EUR", lines=lines, total=200_001, shipping_address=address) == (
        "rejected",
        {
            ("total_mismatch", "total"),
            ("country_not_served", "shipping_address.country"),
            ("total_over_limit", "total"),
            ("too_many_lines", "lines"),
            ("quantity_over_limit", "lines.0.quantity"),
            ("out_of_stock", "lines.0.sku"),
            ("price_changed", "lines.1.unit_price"),
            ("sku_unknown", "lines.2.sku"),
        },
    )


def test_a_currency_that_the_shop_does_not_sell_in_is_a_reason_and_one_that_does_not_exist_is_poison() -> (
    None
):
    assert ("currency_not_sold", "currency") in judged(currency="USD")[1]
    assert faults(currency="XXX") == {"currency": "unknown_currency"}


def test_a_total_from_the_threshold_on_is_held() -> None:
    lines = [LINE | {"quantity": 10}] * 2
    below = {"lines": lines, "shipping": 50_000 - 25_000 - 1, "total": 49_999}
    assert judged(**below)[0] == "accepted"
    assert judged(**(below | {"shipping": 25_000, "total": 50_000})) == ("held", {("review", "total")})


def test_rules_that_say_nothing_restrict_nothing_but_the_sum() -> None:
    assert Rules().judge(Order(**order())).kind == "accepted"
    assert Rules().judge(Order(**order(total=1))).reasons[0].code == "total_mismatch"


def test_parts_whose_sum_no_database_could_hold_are_rejected() -> None:
    lines = [LINE | {"quantity": 1_000_000, "unit_price": MAX_AMOUNT}]
    assert "total_out_of_range" in {
        reason.code for reason in Rules().judge(Order(**order(lines=lines))).reasons
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"total": -1}, "total"),
        ({"total": 2**53}, "total"),
        ({"total": 29.0}, "total"),
        ({"total": "2900"}, "total"),
        ({"total": True}, "total"),
        ({"lines": []}, "lines"),
        ({"lines": [LINE] * 1001}, "lines"),
        ({"lines": [LINE | {"quantity": 0}]}, "lines.0.quantity"),
        ({"lines": [LINE | {"sku": "a\x00b"}]}, "lines.0.sku"),
        ({"lines": [LINE | {"sku": ""}]}, "lines.0.sku"),
        ({"customer": {"name": "A", "email": "nobody"}}, "customer.email"),
        ({"customer": {"name": "A", "email": "a@b\r\nBcc: c@d"}}, "customer.email"),
        ({"customer": {"name": "A\nB", "email": "a@b"}}, "customer.name"),
        ({"customer": None}, "customer"),
        ({"shipping_address": {}}, "shipping_address.name"),
        ({"discuont": 5}, "discuont"),
        ({"order_id": "other"}, "order_id"),
    ],
)
def test_each_malformed_field_is_named(changes: dict[str, Any], field: str) -> None:
    assert field in faults(**changes)


def test_no_fault_quotes_what_was_sent() -> None:
    secret = "canary-9f3a"
    bad = placed("o-1", customer={"name": secret + "\x00", "email": secret}, currency=secret, total=secret)
    with pytest.raises(PoisonError) as caught:
        validate(bad, RULES)
    assert secret not in str([(reason.code, reason.text) for reason in caught.value.reasons])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 50_000, b'{"amount": 1e400, "currency": "EUR"}', b"\xff", b"null"]
)
def test_data_that_is_no_json_object_is_poison(body: bytes) -> None:
    with pytest.raises(PoisonError):
        validate(replace(paid("o-1"), data=body), RULES)


@pytest.mark.parametrize("kind", ["accepted", "rejected", "parked", "eaten", ""])
def test_what_outsiders_may_not_say_is_poison(kind: str) -> None:
    with pytest.raises(PoisonError) as caught:
        validate(event(kind, "o-1", order()), RULES)
    assert caught.value.reasons[0].code == "type_unknown"


def test_an_operators_hold_cannot_smuggle_in_an_order() -> None:
    with pytest.raises(PoisonError) as caught:
        validate(event("held", "o-1", {"order": order()}), RULES)
    assert caught.value.reasons[0].field == "order"


def test_the_same_event_gives_the_same_id_and_its_origin_goes_along() -> None:
    sent = replace(
        placed("o-1"), extensions={"sequence": "7", "traceparent": "00-ab", "knativekafkaoffset": "3"}
    )
    once, again = validate(sent, RULES), validate(sent, RULES)
    assert once == again
    assert once.id != sent.id
    assert (once.extensions["originsource"], once.extensions["originid"]) == (sent.source, sent.id)
    assert once.extensions["sequence"] == "7"
    assert once.extensions["traceparent"] == "00-ab"
    assert once.extensions["partitionkey"] == once.subject == "o-1"
    assert "knativekafkaoffset" not in once.extensions


@given(st.sampled_from([None, 1, 4]), st.booleans())
def test_the_digest_is_of_the_content_not_of_its_formatting(indent: int | None, sort: bool) -> None:
    sent = placed("o-1")
    other = replace(sent, data=json.dumps(json.loads(sent.data), indent=indent, sort_keys=sort).encode())
    assert (
        validate(sent, RULES).extensions["origindigest"] == validate(other, RULES).extensions["origindigest"]
    )


def test_other_content_or_another_order_has_another_digest() -> None:
    sent = placed("o-1")
    digests = {
        validate(each, RULES).extensions["origindigest"]
        for each in (
            sent,
            replace(sent, subject="o-2"),
            replace(sent, data=json.dumps(order(tax=0, metadata={"a": "b"})).encode()),
        )
    }
    assert len(digests) == 3


def test_money_is_shown_with_its_currencys_digits() -> None:
    assert show(123_456, "EUR") == "1,234.56 EUR"
    assert show(1234, "JPY") == "1,234 JPY"
    assert show(1234, "KWD") == "1.234 KWD"
    assert show(-5, "EUR") == "-0.05 EUR"
    assert {MINOR_DIGITS[code] for code in ("EUR", "JPY", "KWD")} == {2, 0, 3}


class OrderOfTheNextRelease(Order):
    """With one more optional field on an order and on its lines."""

    class LineOfTheNextRelease(Line):
        colour: str = "as shown"

    lines: tuple[LineOfTheNextRelease, ...]  # type: ignore[assignment]
    channel: str = "web"
    notes: tuple[str, ...] = ()


def content_digest(sent: CloudEvent) -> str:
    return validate(sent, RULES).extensions["contentdigest"]


def test_the_next_release_with_one_more_optional_field_computes_the_same_content_digest() -> None:
    sent = placed("o-1", metadata={"b": "1", "a": "2"})
    newer: Any = parse(OrderOfTheNextRelease, sent.data)
    assert newer.channel == "web"
    computed = inbox_event.content_digest(sent.type, sent.subject, newer)
    assert computed == content_digest(sent)
    assert re.fullmatch(r"2:[0-9a-f]{64}", computed)
    with_value: Any = parse(
        OrderOfTheNextRelease, json.dumps(json.loads(sent.data) | {"channel": "app"}).encode()
    )
    assert inbox_event.content_digest(sent.type, sent.subject, with_value) != computed


@pytest.mark.parametrize(
    "same",
    [
        {"order_id": "o-1"},
        {"tax": 0, "discount": 0, "metadata": {}},
        {"billing_address": None, "order_id": None},
    ],
)
def test_defaults_nulls_and_a_repeated_order_id_are_the_same_content(same: dict[str, Any]) -> None:
    sent = placed("o-1")
    written_out = replace(
        sent, data=json.dumps(json.loads(sent.data) | same, indent=1, sort_keys=True).encode()
    )
    assert content_digest(written_out) == content_digest(sent)
    line = {"sku": "MUG-BLUE", "quantity": 2, "unit_price": 1250}
    assert content_digest(placed("o-1", lines=[line])) == content_digest(
        placed("o-1", lines=[line | {"name": None}])
    )


def test_other_content_another_type_or_another_order_has_another_content_digest() -> None:
    several = [
        placed("o-1"),
        placed("o-2"),
        placed("o-1", metadata={"a": "b"}),
        placed("o-1", shipping=0, total=2500),
        event("held", "o-1"),
        event("released", "o-1"),
        event("released", "o-1", {"reason": "a slip"}),
    ]
    assert len({content_digest(each) for each in several}) == len(several)
