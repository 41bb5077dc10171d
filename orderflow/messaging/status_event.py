"""Status events: what track announces of an order's change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from orderflow.domain.events import type_of
from orderflow.domain.lifecycle import OrderState, Payment, Status
from orderflow.messaging import trace_context
from orderflow.messaging.cloudevent import CloudEvent, derived_id
from orderflow.messaging.makers import TRACKED_BY

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE: Final = "/orderflow/track"
"""The CloudEvent source of every status event."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of an order's history: the event (source, id) that changed the order, and the state after it.

    serial counts the changes of all orders. The database gives it, so a change that is not written yet has none.
    """

    source: str
    id: str
    kind: str
    state: OrderState
    detail: dict[str, Any]
    occurred_at: datetime
    serial: int | None = None


def change_from_row(row: Mapping[str, Any], currency: str, total: int) -> Change:
    """A row of the history table as a change. occurred_at is text; an order's currency and total never change."""
    state = OrderState(
        status=Status(row["status"]),
        payment=Payment(row["payment"]),
        currency=currency,
        total=total,
        captured=row["captured"],
        refunded=row["refunded"],
        version=row["version"],
    )
    occurred_at = datetime.fromisoformat(row["occurred_at"]).astimezone(UTC)
    return Change(row["source"], row["id"], row["kind"], state, row["detail"], occurred_at, row["serial"])


def status_event_id(source: str, event_id: str) -> str:
    """The id of the status event for the change that the event with this source and id brought about."""
    return derived_id("track", source, event_id)


def status_event(
    order_id: str, document: str, change: Change, cause: CloudEvent | None = None, *, revision: str = ""
) -> CloudEvent:
    """The status event of one change; the same change always gives the same id and data.

    document is the order as JSON. The status event continues the trace of its cause. revision is the revision that
    answers for the event: that of track that renders it.
    """
    state = change.state
    head = to_json(
        {
            "order_id": order_id,
            "kind": change.kind,
            "version": state.version,
            "status": state.status.value,
            "payment": state.payment.value,
            "currency": state.currency,
            "total": state.total,
            "captured": state.captured,
            "refunded": state.refunded,
            "detail": change.detail,
        }
    )
    extensions = {"partitionkey": order_id, "originsource": change.source, "originid": change.id}
    if revision:
        extensions[TRACKED_BY] = revision
    for name in (trace_context.PARENT, trace_context.STATE):
        if cause is not None and name in cause.extensions:
            extensions[name] = cause.extensions[name]
    return CloudEvent(
        type=type_of(change.kind),
        source=SOURCE,
        id=status_event_id(change.source, change.id),
        subject=order_id,
        time=change.occurred_at.isoformat().replace("+00:00", "Z"),
        data=b'%b,"order":%b}' % (head[:-1], document.encode()),
        extensions=extensions,
    )
