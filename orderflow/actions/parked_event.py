"""A parked event as operators act on it: one row of the table `parked`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

SELECT: Final = """
SELECT id, order_id, stage, topic, state, reasons, attributes, payload, parked_at FROM parked
"""
"""For from_row. Whoever uses it appends the conditions."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """attributes are those of the original event, as they were sent, and `datacontenttype`. codes are the codes of the
    reasons for which it was parked."""

    id: str
    order_id: str
    stage: str
    topic: str
    state: str
    codes: tuple[str, ...]
    attributes: dict[str, str]
    payload: bytes
    parked_at: datetime


def from_row(row: Mapping[str, Any]) -> ParkedEvent:
    return ParkedEvent(
        id=row["id"],
        order_id=row["order_id"],
        stage=row["stage"],
        topic=row["topic"],
        state=row["state"],
        codes=tuple(reason["code"] for reason in row["reasons"]),
        attributes=row["attributes"],
        payload=bytes(row["payload"]),
        parked_at=row["parked_at"],
    )


def not_open(parked: ParkedEvent) -> Reason:
    """Why no action is possible on a parked event that is not open."""
    action = "discarded" if parked.state == "discarded" else "replayed"
    return Reason(f"already_{action}", "state", f"the parked event was {action} before")


def in_order(parked_events: Iterable[ParkedEvent]) -> list[ParkedEvent]:
    """Sorts by the time of the original event or, where that event has no valid time, by the time of parking."""

    def sort_key(parked: ParkedEvent) -> tuple[datetime, datetime, str]:
        try:
            return cloudevent.moment(parked.attributes.get("time", "")), parked.parked_at, parked.id
        except PoisonError:
            return parked.parked_at, parked.parked_at, parked.id

    return sorted(parked_events, key=sort_key)
