"""Parsing of untrusted data, and the currency table."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import order

from orderflow.domain.events import INBOX, OrderPlaced, kind_of, parse, type_of
from orderflow.domain.money import MAX_AMOUNT, MINOR_DIGITS, show
from orderflow.errors import PoisonError


def placed(**changes: Any) -> OrderPlaced:
    return parse(OrderPlaced, json.dumps(order(**changes)).encode())


def poison(data: bytes) -> PoisonError:
    with pytest.raises(PoisonError) as caught:
        parse(OrderPlaced, data)
    return caught.value


def test_a_flood_of_faults_gives_a_hundred_reasons() -> None:
    flood = order() | {f"x{number}": 1 for number in range(20_000)}
    assert len(poison(json.dumps(flood).encode()).reasons) == 100


def test_an_unknown_fields_name_is_shown_printable_and_short() -> None:
    names = {"a\x00b\u202e": 1, "\x1b[2J": 1, "n" * 5000: 1}
    fields = [reason.field for reason in poison(json.dumps(order(**names)).encode()).reasons]
    assert all(field.isprintable() and len(field) <= 200 for field in fields)
    assert "a\\x00b\\u202e" in fields


def test_of_two_members_of_one_name_the_last_counts_as_in_every_json_reader_here() -> None:
    text = json.dumps(order())
    assert parse(OrderPlaced, (text[:-1] + ', "total": 7}').encode()).total == 7


def test_the_order_of_metadata_makes_no_difference() -> None:
    one, other = placed(metadata={"a": "1", "b": "2"}), placed(metadata={"b": "2", "a": "1"})
    assert one.model_dump_json() == other.model_dump_json()


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({"total": MAX_AMOUNT}, True),
        ({"total": MAX_AMOUNT + 1}, False),
        ({"total": 0}, True),
        ({"metadata": {str(number): "x" for number in range(50)}}, True),
        ({"metadata": {str(number): "x" for number in range(51)}}, False),
        ({"lines": [{"sku": "A", "quantity": 1_000_000, "unit_price": 0}] * 1000}, True),
        ({"lines": [{"sku": "A", "quantity": 1_000_001, "unit_price": 0}]}, False),
        ({"lines": [{"sku": "A" * 64, "quantity": 1, "unit_price": 0}]}, True),
        ({"lines": [{"sku": "A" * 65, "quantity": 1, "unit_price": 0}]}, False),
        ({"order_id": "o" * 64}, True),
        ({"order_id": "o" * 65}, False),
        ({"order_id": "-o"}, False),
        ({"order_id": "o\n"}, False),
        ({"customer": {"name": "\u5c0f\u6797 \U0001f600", "email": "a@b.example"}}, True),
        ({"customer": {"name": "\x7f", "email": "a@b.example"}}, False),
        ({"shipping_address": order()["shipping_address"] | {"country": "de"}}, False),
    ],
)
def test_an_orders_bounds(changes: dict[str, Any], *, valid: bool) -> None:
    try:
        placed(**changes)
    except PoisonError:
        assert not valid
    else:
        assert valid


@given(st.sampled_from(sorted(INBOX)), st.binary(max_size=60))
def test_nothing_but_poison_comes_out_of_garbage(kind: str, data: bytes) -> None:
    with pytest.raises(PoisonError):
        parse(INBOX[kind], data + b"\xff")


def test_a_lone_surrogate_is_poison() -> None:
    text = json.dumps(order(metadata={"gift": "SURROGATE"})).replace("SURROGATE", "\\ud800")
    assert poison(text.encode()).reasons


def test_a_type_names_its_kind_and_a_foreign_one_none() -> None:
    assert [kind_of(type_of(kind)) for kind in INBOX] == list(INBOX)
    for foreign in ("", "dev.orderflow.order.paid.v2", "com.example.order.paid.v1", "paid"):
        assert kind_of(foreign) is None


def test_the_currency_table_is_iso_4217s() -> None:
    by_digits = {digits: sum(each == digits for each in MINOR_DIGITS.values()) for digits in (0, 2, 3)}
    assert sum(by_digits.values()) == len(MINOR_DIGITS)
    without = " ".join(code for code, digits in MINOR_DIGITS.items() if digits == 0)
    assert without == "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
    thousandths = " ".join(code for code, digits in MINOR_DIGITS.items() if digits == 3)
    assert thousandths == "BHD IQD JOD KWD LYD OMR TND"
    assert {"EUR", "USD", "GBP", "BRL", "CHF", "PLN", "SEK"} <= set(MINOR_DIGITS)
    # No metals, funds and test codes, and no currencies that the euro replaced.
    assert not {"XXX", "XTS", "XAU", "XDR", "DEM", "HRK", "BGN", "eur", ""} & set(MINOR_DIGITS)


@given(st.sampled_from(sorted(MINOR_DIGITS)), st.integers(-(10**12), MAX_AMOUNT))
def test_an_amount_is_shown_with_all_its_digits(currency: str, amount: int) -> None:
    number, code = show(amount, currency).split(" ")
    assert code == currency
    assert int(number.replace(",", "").replace(".", "")) == amount
    assert len(number.partition(".")[2]) == MINOR_DIGITS[currency]
