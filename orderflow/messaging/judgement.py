"""Judgements: what a stage would make of an event. A stage answers `POST /judge` without any effect."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict

from orderflow.domain.lifecycle import OrderState
from orderflow.domain.orders import Frozen
from orderflow.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.messaging.cloudevent import CloudEvent

PATH: Final = "/judge"
PARKED: Final = "parked"


class Judgement(BaseModel):
    """outcome: for validate the kind of the event that it would publish, for track the ledger's outcome; `parked` for
    an event that no repetition helps.

    event: what validate would publish, as a structured CloudEvent. order, detail, document: what track would write of
    an event that applies: the order's state after the event, the history's detail and, for a placed order, its
    document.
    """

    model_config = ConfigDict(frozen=True)

    outcome: str
    reasons: tuple[Reason, ...] = ()
    event: dict[str, Any] | None = None
    order: OrderState | None = None
    detail: dict[str, Any] | None = None
    document: dict[str, Any] | None = None


class TrackQuestion(Frozen):
    """event: an event of the events topic, as a structured CloudEvent. order: the order's state before the event, None
    where the order is not known. decided_sequence: the highest sequence among those events of the same order and source
    that were decided before. replay_known: the operators' table has the event's replay."""

    event: dict[str, Any]
    order: OrderState | None = None
    decided_sequence: int | None = None
    replay_known: bool = False


def readable(event: CloudEvent) -> dict[str, Any]:
    """The event as a structured CloudEvent. Raises ValueError where its data is not JSON."""
    return event.attributes() | {"datacontenttype": event.content_type, "data": json.loads(event.data)}


def structured(attributes: Mapping[str, str], content_type: str, data: bytes) -> dict[str, Any]:
    """The event as a structured CloudEvent that keeps the bytes of its data, whatever they are."""
    encoded = base64.b64encode(data).decode()
    return {**attributes, "datacontenttype": content_type, "data_base64": encoded}


def reasons_of(data: object) -> tuple[Reason, ...]:
    """The reasons in the data of a verdict, none in that of another event."""
    reasons = data.get("reasons", ()) if isinstance(data, dict) else ()
    try:
        return tuple(Reason(**reason) for reason in reasons)
    except TypeError:
        return (Reason("reasons_unreadable", "reasons", "these are no reasons"),)
