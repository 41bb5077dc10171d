"""The history of one order for people: each event, its outcome, the revision that decided, the notifications."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from orderflow.actions.events import SOURCE
from orderflow.domain.lifecycle import Status
from orderflow.domain.money import show
from orderflow.messaging.status_event import status_event_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orderflow.query.store.read_model import (
        ActionDone,
        LedgerEntry,
        Notification,
        OrderChange,
        OrderRecord,
        ParkedSummary,
        WaitingEvent,
    )

_BAD_NEWS: Final = frozenset({"held", "rejected", "declined"})

LATE_SECONDS: Final = 60
"""An event that was recorded later than this after it happened counts as late."""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event in the life of an order.

    at: when the stage recorded the event. changes: (property, value before, value after). details: (name, text).
    """

    at: datetime
    occurred_at: datetime
    kind: str
    outcome: str
    stage: str
    revision: str
    version: int | None
    source: str
    id: str
    reason: dict[str, str] | None = None
    changes: tuple[tuple[str, str, str], ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    expires_at: datetime | None = None
    parked: ParkedSummary | None = None
    notifications: list[Notification] = field(default_factory=list)

    @property
    def day(self) -> str:
        """The UTC day of at."""
        return self.at.astimezone(UTC).date().isoformat()

    @property
    def severity_word(self) -> str:
        """The word whose severity colours the entry: the outcome, but the kind where an applied event is bad news."""
        return self.kind if self.outcome == "applied" and self.kind in _BAD_NEWS else self.outcome

    @property
    def late_by(self) -> float:
        """Seconds from the event to its recording; 0 where the event is not late."""
        seconds = (self.at - self.occurred_at).total_seconds()
        return seconds if seconds >= LATE_SECONDS else 0


def timeline(record: OrderRecord) -> list[TimelineEntry]:
    """In the order in which the events took effect; an event that waited comes where its wait ended."""
    changes = {(change.source, change.id): change for change in record.history}
    previous = {
        change.version: earlier for earlier, change in zip(record.history, record.history[1:], strict=False)
    }
    waiting = {(event.source, event.id): event for event in record.waiting}
    parked = _by_origin(record.parked)
    parked_by_id = {event.id: event for event in record.parked}
    notifications: dict[str, list[Notification]] = {}
    for notification in record.notifications:
        notifications.setdefault(notification.event_id, []).append(notification)
    requested = {action.detail["event_id"]: action for action in record.actions if action.outcome == "asked"}
    entries = []
    for entry in record.ledger:
        key = (entry.source, entry.id)
        change = changes.get(key)
        entries.append(
            _ledger_entry(
                entry,
                record,
                change,
                previous.get(change.version) if change else None,
                waiting.get(key),
                parked.pop(key, None) if entry.outcome == "parked" else None,
                notifications.pop(status_event_id(*key), []),
                requested.pop(entry.id, None) if entry.source == SOURCE else None,
            )
        )
    entries += [_parked_entry(event) for event in parked.values()]
    entries += [_notification_entry(of_one_event) for of_one_event in notifications.values()]
    finished = [action for action in record.actions if action.outcome != "asked"]
    entries += [
        _action_entry(action, parked_by_id.get(action.parked_id))
        for action in [*requested.values(), *finished]
    ]
    return sorted(entries, key=lambda entry: (entry.at, entry.version or 0, entry.id))


def _by_origin(parked: Iterable[ParkedSummary]) -> dict[tuple[str, str], ParkedSummary]:
    """By source and id of the originating event, or of the parked event itself where no stage had handled it before."""
    by_origin: dict[tuple[str, str], ParkedSummary] = {}
    for event in parked:
        key = (event.origin_source or event.source, event.origin_id or event.event_id)
        # An event that was parked twice, by two stages or for two reasons, has two entries.
        by_origin[key if key not in by_origin else (event.id, event.code)] = event
    return by_origin


def _ledger_entry(
    entry: LedgerEntry,
    record: OrderRecord,
    change: OrderChange | None,
    previous: OrderChange | None,
    waiting: WaitingEvent | None,
    parked: ParkedSummary | None,
    notifications: list[Notification],
    action: ActionDone | None,
) -> TimelineEntry:
    changes = tuple(_changes(change, previous, record.summary.currency)) if change else ()
    shown_texts = {after for _, _, after in changes}
    # The ledger does not keep what an event said: the action tells who asked for an event that had no effect.
    details = _details(change.detail, shown_texts) if change else _action_details(action)
    return TimelineEntry(
        at=entry.recorded_at,
        occurred_at=entry.occurred_at,
        kind=entry.kind,
        outcome=entry.outcome,
        stage="track",
        revision=entry.revision,
        version=change.version if change else None,
        source=entry.source,
        id=entry.id,
        reason=entry.reason,
        changes=changes,
        details=tuple(details),
        expires_at=waiting.expires_at if waiting else None,
        parked=parked,
        notifications=notifications,
    )


def _changes(
    change: OrderChange, previous: OrderChange | None, currency: str
) -> Iterable[tuple[str, str, str]]:
    if previous is None or previous.status != change.status:
        yield "status", previous.status if previous else Status.PLACED, change.status
    if (previous.payment if previous else "unpaid") != change.payment:
        yield "payment", previous.payment if previous else "unpaid", change.payment
    for name in ("captured", "refunded"):
        before, after = getattr(previous, name) if previous else 0, getattr(change, name)
        if before != after:
            yield name, show(before, currency), show(after, currency)


def _details(detail: dict[str, Any], shown_texts: set[str]) -> Iterable[tuple[str, str]]:
    """shown_texts: texts that the entry's changes show already."""
    if "amount" in detail and "currency" in detail:
        amount = show(detail["amount"], detail["currency"])
        if amount not in shown_texts:
            yield "amount", amount
    for name, value in detail.items():
        if name == "reasons":
            for reason in value:
                yield (
                    reason["code"],
                    f"{reason['field']}: {reason['text']}" if reason["field"] else reason["text"],
                )
        elif name not in {"amount", "currency"}:
            yield name, str(value)


def _parked_entry(event: ParkedSummary) -> TimelineEntry:
    """An event that never reached the ledger: a stage before track parked it, or that stage's dead-letter sink."""
    return TimelineEntry(
        at=event.parked_at,
        occurred_at=event.parked_at,
        kind="parked",
        outcome="parked",
        stage=event.stage,
        revision="",
        version=None,
        source=event.source,
        id=event.event_id,
        reason=event.reasons[0] if event.reasons else None,
        parked=event,
    )


def _action_entry(action: ActionDone, parked: ParkedSummary | None) -> TimelineEntry:
    """An operator's action. An action on the order has an entry of its own only until the ledger has its event."""
    return TimelineEntry(
        at=action.recorded_at,
        occurred_at=action.occurred_at,
        kind=action.kind,
        outcome=action.outcome,
        stage="operators",
        revision="",
        version=None,
        source="",
        id=action.id,
        reason=action.refusal,
        details=tuple(_action_details(action)),
        parked=parked,
    )


def _action_details(action: ActionDone | None) -> Iterable[tuple[str, str]]:
    if action is None:
        return
    yield "by", action.by
    if action.reason:
        yield "reason", action.reason
    if fields := action.detail.get("fields"):
        yield "edited", ", ".join(fields)
    if hours := action.detail.get("hours"):
        events = action.detail.get("events", 0)
        yield "waits longer by", f"{hours:g} h ({events} {'event' if events == 1 else 'events'})"


def _notification_entry(notifications: list[Notification]) -> TimelineEntry:
    """Notifications of an event that the ledger does not have, or not under this id."""
    first = notifications[0]
    return TimelineEntry(
        at=first.created_at,
        occurred_at=first.created_at,
        kind=first.kind,
        outcome="notified",
        stage="notify",
        revision=first.revision,
        version=None,
        source="",
        id=first.event_id,
        notifications=notifications,
    )
