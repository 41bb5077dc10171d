"""The pages of a list, with links to the older and to the newer page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlencode

from flask import request

from orderflow.query.store.filters import PageCursor

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from orderflow.query.store.filters import ListFilter, OrderFilter
    from orderflow.query.store.read_model import OrderSummary, ParkedSummary

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """rows: latest first. older and newer: the addresses of the neighbouring pages, None where there is none."""

    rows: list[Row]
    older: str | None
    newer: str | None


def page_of(
    rows: list[Row], list_filter: ListFilter, key: Callable[[Row], tuple[datetime, str]]
) -> Page[Row]:
    """rows: as the reader returns them, in the cursor's direction, with one row too many where more follow."""
    cursor = list_filter.cursor
    more = len(rows) > list_filter.limit
    page_rows = rows[: list_filter.limit]
    if list_filter.towards_newer:
        page_rows.reverse()
    if not page_rows:
        return Page([], None, None)
    has_older = more or list_filter.towards_newer
    has_newer = cursor is not None and (more or not cursor.newer)
    return Page(
        page_rows,
        page_address(PageCursor(*key(page_rows[-1])).token()) if has_older else None,
        page_address(PageCursor(*key(page_rows[0]), newer=True).token()) if has_newer else None,
    )


def page_address(token: str | None = None) -> str:
    """The address of the request with another page of the list; without a token, the first page."""
    arguments = {name: value for name, value in request.args.items() if name != "page" and value}
    query = urlencode(arguments | ({"page": token} if token else {}))
    return f"{request.path}?{query}" if query else request.path


def order_key(order_filter: OrderFilter) -> Callable[[OrderSummary], tuple[datetime, str]]:
    """The sort key of the list of orders."""
    return lambda row: ((order_filter.by_placing and row.placed_at) or row.updated_at, row.order_id)


def parked_key(row: ParkedSummary) -> tuple[datetime, str]:
    return row.parked_at, row.id
