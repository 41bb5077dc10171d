"""The header Idempotency-Key."""

import pytest

from orderflow.adapters.http import idempotency_key
from orderflow.errors import PoisonError


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("k", "k"),
        ('"k"', "k"),
        ('"a b"', "a b"),
        (r'"a\"b\\c"', r'a"b\c'),
        ('"k', '"k'),
        ('k"', 'k"'),
        ('"a"b"', '"a"b"'),
        (r'"a\b"', r'"a\b"'),
        ('""', '""'),
        ('""k""', '""k""'),
        ("", ""),
    ],
)
def test_a_string_of_structured_fields_is_its_content_and_anything_else_is_itself(
    value: str, key: str
) -> None:
    assert idempotency_key.read(value, "text") == key


@pytest.mark.parametrize("value", ["k" * 256, "k\u00e9", "k\x7f", "k\n"])
def test_a_value_that_is_no_key_is_an_error_that_names_the_header(value: str) -> None:
    with pytest.raises(PoisonError) as caught:
        idempotency_key.read(value, "text")
    assert [(each.code, each.field) for each in caught.value.reasons] == [
        ("idempotency_key_invalid", "Idempotency-Key")
    ]
