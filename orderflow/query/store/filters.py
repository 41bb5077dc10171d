"""The filters and the pages of a list, parsed from a query string."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from orderflow.domain.attention import NEEDS
from orderflow.domain.events import parse
from orderflow.domain.lifecycle import Payment, Status
from orderflow.domain.orders import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TOKEN_LENGTH: Final = 400


@dataclass(frozen=True, slots=True)
class PageCursor:
    """Keyset-pagination cursor: the page starts after this (time, id), towards older or newer rows.

    A list is sorted by time, latest first, then by id.
    """

    at: datetime
    id: str
    newer: bool = False

    def token(self) -> str:
        """The cursor as an address carries it: opaque, but not secret."""
        fields = [(self.at - _EPOCH) // timedelta(microseconds=1), self.id, int(self.newer)]
        return (
            base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")
        )


def _cursor(token: object) -> object:
    if not isinstance(token, str):
        return token
    try:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise ValueError  # noqa: TRY301 - every fault of a token is reported with one sentence
        fields = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        micros, row_id, newer = fields
        if not (
            isinstance(micros, int) and isinstance(row_id, str) and newer in {0, 1} and row_id.isprintable()
        ):
            raise ValueError  # noqa: TRY301 - the same
        return PageCursor(_EPOCH + timedelta(microseconds=micros), row_id, bool(newer))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise PydanticCustomError(
            "page_invalid", "this is not a page of this list; request the list without it"
        ) from None


def _moment(value: object, *, end: bool) -> object:
    """Converts a date or an RFC 3339 time to UTC. A date stands for its first moment or, with end, the next day's."""
    if not isinstance(value, str):
        return value
    try:
        day = date.fromisoformat(value)
        return datetime.combine(day, time(), UTC) + timedelta(days=int(end))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError(
        "time_invalid", "this is neither a date (2026-11-22) nor an RFC 3339 time with an offset"
    )


SearchText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
_DATE_OR_TIME: Final = WithJsonSchema(
    {"anyOf": [{"type": "string", "format": name} for name in ("date", "date-time")]}
)
Since = Annotated[datetime, BeforeValidator(lambda value: _moment(value, end=False)), _DATE_OR_TIME]
Until = Annotated[datetime, BeforeValidator(lambda value: _moment(value, end=True)), _DATE_OR_TIME]
Page = Annotated[
    Any, BeforeValidator(_cursor), WithJsonSchema({"type": "string", "maxLength": _MAX_TOKEN_LENGTH})
]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]*$")]


def _known_need(need: str) -> str:
    if need not in NEEDS:
        raise PydanticCustomError("need_unknown", "this must be one of {needs}", {"needs": ", ".join(NEEDS)})
    return need


Need = Annotated[str, AfterValidator(_known_need), WithJsonSchema({"type": "string", "enum": list(NEEDS)})]


class ListFilter(Frozen):
    """limit: the number of rows on a page."""

    page: Page = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    @property
    def cursor(self) -> PageCursor | None:
        return self.page if isinstance(self.page, PageCursor) else None

    @property
    def towards_newer(self) -> bool:
        return self.cursor is not None and self.cursor.newer


class OrderFilter(ListFilter):
    """Orders. Each term of q is a prefix of the order id, of the customer's e-mail address or of a word of their name.

    Orders are sorted by their last change, or by the time of placing if a bound for that time is set; latest first.
    """

    status: Status | Literal["awaited"] | None = None
    payment: Payment | None = None
    attention: Need | None = None
    q: SearchText = ""
    placed_from: Since | None = None
    placed_to: Until | None = None

    @property
    def by_placing(self) -> bool:
        return self.placed_from is not None or self.placed_to is not None

    @property
    def terms(self) -> list[str]:
        return self.q.lower().split()


class ParkedFilter(ListFilter):
    state: Name = ""
    stage: Name = ""
    code: Name = ""
    order: Name = ""


F = TypeVar("F", bound=Frozen)


def read(kind: type[F], arguments: Mapping[str, str]) -> F:
    """Parses a query string. Empty arguments count as missing, since a form sends its empty fields.

    Raises PoisonError naming each invalid argument. An unknown argument is invalid too: a list that ignored it would
    mislead.
    """
    values = {name: value for name, value in arguments.items() if value.strip()}
    return parse(kind, json.dumps(values).encode())
