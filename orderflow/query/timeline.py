"""One order as it reads from top to bottom: each event, what became of it, which revision did it, what was sent."""

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
        Early,
        Entry,
        Notification,
        OrderRecord,
        ParkedSummary,
        Step,
    )

_BAD_NEWS: Final = frozenset({"held", "rejected", "declined"})

LATE_SECONDS: Final = 60
"""From how long after it happened an event counts as late."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One event in the life of an order. at is when the stage recorded it, changes what it moved: of what, from,
    to. A detail is a name and a text."""

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
    sent: list[Notification] = field(default_factory=list)

    @property
    def day(self) -> str:
        """The UTC day of at."""
        return self.at.astimezone(UTC).date().isoformat()

    @property
    def mood(self) -> str:
        """The word whose tone the event has: what it was taken for, or what it brought where that is no good."""
        return self.kind if self.outcome == "applied" and self.kind in _BAD_NEWS else self.outcome

    @property
    def late_by(self) -> float:
        """Seconds between the event and its recording, 0 where that is no time to speak of."""
        seconds = (self.at - self.occurred_at).total_seconds()
        return seconds if seconds >= LATE_SECONDS else 0


def timeline(record: OrderRecord) -> list[Turn]:
    """In the order in which the events took effect; an event that waited stands where its wait ended."""
    steps = {(step.source, step.id): step for step in record.history}
    before = {
        step.version: earlier for earlier, step in zip(record.history, record.history[1:], strict=False)
    }
    early = {(event.source, event.id): event for event in record.waiting}
    parked = _by_origin(record.parked)
    sent: dict[str, list[Notification]] = {}
    for notification in record.notifications:
        sent.setdefault(notification.event_id, []).append(notification)
    letters = {event.id: event for event in record.parked}
    asked = {action.detail["event_id"]: action for action in record.actions if action.outcome == "asked"}
    turns = []
    for entry in record.ledger:
        key = (entry.source, entry.id)
        step = steps.get(key)
        turns.append(
            _turn(
                entry,
                record,
                step,
                before.get(step.version) if step else None,
                early.get(key),
                parked.pop(key, None) if entry.outcome == "parked" else None,
                sent.pop(status_event_id(*key), []),
                asked.pop(entry.id, None) if entry.source == SOURCE else None,
            )
        )
    turns += [_parked_turn(event) for event in parked.values()]
    turns += [_sent_turn(notifications) for notifications in sent.values()]
    done = [action for action in record.actions if action.outcome != "asked"]
    turns += [_action_turn(action, letters.get(action.parked_id)) for action in [*asked.values(), *done]]
    return sorted(turns, key=lambda turn: (turn.at, turn.version or 0, turn.id))


def _by_origin(parked: Iterable[ParkedSummary]) -> dict[tuple[str, str], ParkedSummary]:
    """By the event that it all began with: its own source and id where no stage of ours had touched it."""
    found: dict[tuple[str, str], ParkedSummary] = {}
    for event in parked:
        key = (event.origin_source or event.source, event.origin_id or event.event_id)
        # Two parkings of one event (another reason, another stage) are two turns.
        found[key if key not in found else (event.id, event.code)] = event
    return found


def _turn(
    entry: Entry,
    record: OrderRecord,
    step: Step | None,
    before: Step | None,
    early: Early | None,
    parked: ParkedSummary | None,
    sent: list[Notification],
    asked: ActionDone | None,
) -> Turn:
    changes = tuple(_changes(step, before, record.summary.currency)) if step else ()
    return Turn(
        at=entry.recorded_at,
        occurred_at=entry.occurred_at,
        kind=entry.kind,
        outcome=entry.outcome,
        stage="track",
        revision=entry.revision,
        version=step.version if step else None,
        source=entry.source,
        id=entry.id,
        reason=entry.reason,
        changes=changes,
        # The ledger keeps what an event did, not what it said: who asked in vain is known from the action.
        details=tuple(_details(step.detail, {after for _, _, after in changes}) if step else _who(asked)),
        expires_at=early.expires_at if early else None,
        parked=parked,
        sent=sent,
    )


def _changes(step: Step, before: Step | None, currency: str) -> Iterable[tuple[str, str, str]]:
    if before is None or before.status != step.status:
        yield "status", before.status if before else Status.PLACED, step.status
    if (before.payment if before else "unpaid") != step.payment:
        yield "payment", before.payment if before else "unpaid", step.payment
    for name in ("captured", "refunded"):
        earlier, now = getattr(before, name) if before else 0, getattr(step, name)
        if earlier != now:
            yield name, show(earlier, currency), show(now, currency)


def _details(detail: dict[str, Any], said: set[str]) -> Iterable[tuple[str, str]]:
    if "amount" in detail and "currency" in detail:
        amount = show(detail["amount"], detail["currency"])
        if amount not in said:
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


def _parked_turn(event: ParkedSummary) -> Turn:
    """What never reached the ledger: a stage before track parked it, or its dead-letter sink."""
    return Turn(
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


def _action_turn(action: ActionDone, letter: ParkedSummary | None) -> Turn:
    """What an operator did. What they asked of an order is here only until the ledger knows the event."""
    return Turn(
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
        details=tuple(_who(action)),
        parked=letter,
    )


def _who(action: ActionDone | None) -> Iterable[tuple[str, str]]:
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


def _sent_turn(notifications: list[Notification]) -> Turn:
    """Notifications of an event that the ledger has under another name, or has not yet."""
    first = notifications[0]
    return Turn(
        at=first.created_at,
        occurred_at=first.created_at,
        kind=first.kind,
        outcome="notified",
        stage="notify",
        revision=first.revision,
        version=None,
        source="",
        id=first.event_id,
        sent=notifications,
    )
