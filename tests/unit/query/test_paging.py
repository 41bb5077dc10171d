"""The filters and pages of the console's lists."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.errors import PoisonError
from orderflow.query.store import filters
from orderflow.query.store.filters import OrderFilter, PageCursor, ParkedFilter

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), st.booleans())
def test_a_cursor_survives_the_address_to_the_microsecond(at: datetime, row: str, newer: bool) -> None:
    cursor = PageCursor(at, row, newer=newer)
    assert filters.read(OrderFilter, {"page": cursor.token()}).cursor == cursor


@given(st.text(min_size=1, max_size=500).filter(str.strip))
def test_a_page_that_is_not_ours_is_refused_and_named(token: str) -> None:
    with pytest.raises(PoisonError) as caught:
        filters.read(OrderFilter, {"page": token})
    assert [(reason.code, reason.field) for reason in caught.value.reasons] == [("page_invalid", "page")]


@pytest.mark.parametrize(
    "fields",
    [
        '[0,"a"]',
        '[0,"a",2]',
        '["0","a",0]',
        "[0,1,0]",
        '{"a":0}',
        '[1e300,"a",0]',
        f'[{10**30},"a",0]',
        '[0,"\\u0000",0]',
    ],
)
def test_a_forged_page_is_refused(fields: str) -> None:
    with pytest.raises(PoisonError):
        filters.read(OrderFilter, {"page": base64.urlsafe_b64encode(fields.encode()).decode().rstrip("=")})


def test_the_empty_fields_of_a_form_do_not_count() -> None:
    order_filter = filters.read(OrderFilter, {"status": "", "q": " ", "placed_from": "", "limit": ""})
    assert order_filter == OrderFilter()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"status": "lost"}, "status"),
        ({"payment": "gold"}, "payment"),
        ({"attention": "all"}, "attention"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"placed_from": "yesterday"}, "placed_from"),
        ({"placed_from": "2026-11-22T10:00:00"}, "placed_from"),
        ({"placed_to": "9999-12-31"}, "placed_to"),
        ({"q": "a\x00b"}, "q"),
        ({"q": "x" * 201}, "q"),
        ({"sort": "total"}, "sort"),
    ],
)
def test_an_invalid_argument_is_refused_and_named(arguments: dict[str, str], field: str) -> None:
    with pytest.raises(PoisonError) as caught:
        filters.read(OrderFilter, arguments)
    assert {reason.field.split(".")[0] for reason in caught.value.reasons} == {field}


def test_an_unknown_filter_of_parked_events_is_refused() -> None:
    with pytest.raises(PoisonError):
        filters.read(ParkedFilter, {"status": "held"})


def test_a_day_means_all_of_it_and_a_time_is_turned_to_utc() -> None:
    order_filter = filters.read(OrderFilter, {"placed_from": "2026-11-22", "placed_to": "2026-11-22"})
    assert order_filter.placed_from == datetime(2026, 11, 22, tzinfo=UTC)
    assert order_filter.placed_to == datetime(2026, 11, 23, tzinfo=UTC)
    order_filter = filters.read(OrderFilter, {"placed_from": "2026-11-22T10:00:00+02:00"})
    assert order_filter.placed_from == datetime(2026, 11, 22, 8, tzinfo=UTC)
