"""What everyone may see of a parked event."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import order

from orderflow.query import masking

PERSONAL = "Ada Lovelace of 1 Analytical Way"


def test_an_order_keeps_its_shape_and_its_figures_and_loses_its_people() -> None:
    masked, form = masking.payload(json.dumps(order()).encode())
    document = json.loads(masked)
    assert form == "json"
    assert document["total"] == 2900
    assert document["lines"][0]["sku"] == "MUG-BLUE"
    assert document["shipping_address"]["country"] == "DE"
    for personal in ("Ada", "example.org", "Analytical", "Berlin"):
        assert personal not in masked


def test_a_revealed_payload_is_unchanged() -> None:
    payload, _ = masking.payload(json.dumps(order()).encode(), reveal=True)
    assert json.loads(payload) == order()


def anywhere(personal: Any) -> st.SearchStrategy[Any]:
    fields = st.sampled_from(["sku", "total", "status", "surname", "e-mail", "x", "code"])
    return st.recursive(
        st.just(personal),
        lambda inner: st.lists(inner, min_size=1) | st.dictionaries(fields, inner, min_size=1),
    )


@given(anywhere(PERSONAL))
def test_a_sentence_is_masked_wherever_it_is(document: Any) -> None:
    masked, _ = masking.payload(json.dumps(document).encode())
    assert PERSONAL not in masked


def test_a_person_in_the_name_of_a_field_is_masked() -> None:
    masked, _ = masking.payload(json.dumps({PERSONAL: 1, "ada@example.org": 2}).encode())
    assert "Ada" not in masked
    assert "ada" not in masked


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"", "empty"),
        (PERSONAL.encode(), "text"),
        (b"\xff\xfe" + PERSONAL.encode(), "binary"),
        (b"[" * 100_000, "text"),
        (b"[" * 500 + b"]" * 500, "json"),
        (b'{"name": "\\ud800", "sku": "\\ud800"}', "json"),
        (b"9" * 5000, "text"),
    ],
)
def test_content_of_any_form_is_named_by_its_form_and_never_shown(content: bytes, form: str) -> None:
    masked, masked_form = masking.payload(content)
    assert masked_form == form
    assert "Ada" not in masked
    assert masked.encode() is not None
    assert masking.payload(content, reveal=True)[0].encode() is not None


def test_attributes_that_our_stages_do_not_set_are_masked() -> None:
    masked = masking.attributes(
        {"id": "e-1", "type": "t", "subject": "order-1", "kafkaheadername": "Ada", "key": "ada@example.org"}
    )
    assert (masked["id"], masked["subject"]) == ("e-1", "order-1")
    assert "Ada" not in masked["kafkaheadername"]
    assert "ada" not in masked["key"]


@pytest.mark.parametrize("name", ["type", "id", "source", "time", "sequence", "replay", "traceparent", "x"])
def test_an_attribute_is_shown_only_where_it_looks_like_what_it_is(name: str) -> None:
    assert masking.attributes({name: "ada@example.org"})[name] == "(15 characters, masked)"


def test_attributes_that_our_stages_and_kafkasource_set_are_shown() -> None:
    attributes = {
        "specversion": "1.0",
        "type": "dev.orderflow.order.placed.v1",
        "id": "cart-4711",
        "source": "/shop/test",
        "time": "2026-11-23T10:00:00.000+01:00",
        "datacontenttype": "application/json; charset=utf-8",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "sequence": "7",
        "knativeerrordest": "http://track.orderflow.svc.cluster.local/",
        "knativeerrorcode": "503",
    }
    assert masking.attributes(attributes) == attributes
