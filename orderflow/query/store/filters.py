"""What may be asked for: the filters of a list, and the place in it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from orderflow.domain.deadlines import SEQUENCE_GAP, STATUSES, WAITING_EXPIRES, StuckPayment, code_of
from orderflow.domain.events import parse
from orderflow.domain.lifecycle import Payment, Status
from orderflow.domain.orders import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

STUCK: Final = tuple(code_of(name) for name in (*STATUSES, *StuckPayment.model_fields))
ALERTS: Final[dict[str, tuple[str, ...]]] = {
    "stuck": STUCK,
    **{code: (code,) for code in (*STUCK, SEQUENCE_GAP, WAITING_EXPIRES)},
}
"""What may be asked for of the shop's limits, and the alerts that it means."""
NEEDS: Final = ("held", "awaited", "refund_due", "unpaid", "notification_failed", *ALERTS)
"""Why an order may need a hand, the most urgent first, then what is over the shop's limits."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_TOKEN: Final = 400


@dataclass(frozen=True, slots=True)
class Place:
    """Between two rows of a list that is sorted by time, latest first, then by id: the row at that time and id
    is on the one side, and what is asked for on the other, older or newer."""

    at: datetime
    id: str
    newer: bool = False

    def token(self) -> str:
        """What stands in an address: nothing in it is for people, and nothing in it is secret."""
        fields = [(self.at - _EPOCH) // timedelta(microseconds=1), self.id, int(self.newer)]
        return (
            base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")
        )


def _place(token: object) -> object:
    if not isinstance(token, str):
        return token
    try:
        if len(token) > _LONGEST_TOKEN:
            raise ValueError  # noqa: TRY301 - all that is wrong with a token is told in one sentence
        fields = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        micros, row, newer = fields
        if not (isinstance(micros, int) and isinstance(row, str) and newer in {0, 1} and row.isprintable()):
            raise ValueError  # noqa: TRY301 - the same
        return Place(_EPOCH + timedelta(microseconds=micros), row, bool(newer))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise PydanticCustomError(
            "page_invalid", "this is no page of this list; begin again without it"
        ) from None


def _moment(value: object, *, end: bool) -> object:
    """A day or an RFC 3339 time as a moment; of a day its beginning, or its end where one is asked for."""
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
        "time_invalid", "this is no day (2026-11-22) and no RFC 3339 time with an offset"
    )


Words = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
_DAY: Final = WithJsonSchema(
    {"anyOf": [{"type": "string", "format": each} for each in ("date", "date-time")]}
)
Since = Annotated[datetime, BeforeValidator(lambda value: _moment(value, end=False)), _DAY]
Until = Annotated[datetime, BeforeValidator(lambda value: _moment(value, end=True)), _DAY]
Page = Annotated[
    Any, BeforeValidator(_place), WithJsonSchema({"type": "string", "maxLength": _LONGEST_TOKEN})
]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]*$")]


def _known(attention: str) -> str:
    if attention not in NEEDS:
        raise PydanticCustomError("need_unknown", "this is none of {known}", {"known": ", ".join(NEEDS)})
    return attention


Attention = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(NEEDS)})]


class Listing(Frozen):
    """limit is the number of rows on a page."""

    page: Page = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    @property
    def place(self) -> Place | None:
        return self.page if isinstance(self.page, Place) else None


class OrderFilter(Listing):
    """Orders. Every word of q begins the order's id, its customer's e-mail address or a word of their name.

    Sorted by their last change, or by their placing where a time of placing is asked for; latest first.
    """

    status: Status | Literal["awaited"] | None = None
    payment: Payment | None = None
    attention: Attention | None = None
    q: Words = ""
    placed_from: Since | None = None
    placed_to: Until | None = None

    @property
    def by_placing(self) -> bool:
        return self.placed_from is not None or self.placed_to is not None

    @property
    def words(self) -> list[str]:
        return self.q.lower().split()


class ParkedFilter(Listing):
    state: Name = ""
    stage: Name = ""
    code: Name = ""
    order: Name = ""


F = TypeVar("F", bound=Frozen)


def read(kind: type[F], arguments: Mapping[str, str]) -> F:
    """The filter that a query string asks for; a form's empty fields do not count.

    Raises PoisonError naming each argument at fault, unknown ones too: a filter that is not applied misleads.
    """
    given = {name: value for name, value in arguments.items() if value.strip()}
    return parse(kind, json.dumps(given).encode())
