"""What an event does to its order, decided without a database: rows to write and events to publish."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from orderflow.domain import lifecycle
from orderflow.domain.events import UPDATES, VERDICTS, Update, Verdict, kind_of, parse
from orderflow.domain.lifecycle import OrderState, Outcome
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, trace_context
from orderflow.messaging.cloudevent import moment
from orderflow.messaging.status_event import Change, status_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from orderflow.messaging.cloudevent import CloudEvent

STAGE: Final = "track"
WAITED_TOO_LONG: Final = Reason("waited_too_long", "type", "what this event needs to come first never came")
_ORDER_MEMBER: Final = re.compile(rb'"order"\s*:')
"""Finds a member of that name only: within a JSON string, every quote is escaped."""
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_REPLAYABLE: Final = frozenset({Outcome.PARKED, Outcome.REFUSED})
"""The outcomes that an operator's replay can change. An event with any other outcome has taken effect or still may."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event that track handles: the fact, and the source, id and digest of the inbox event that it came from."""

    event: CloudEvent
    fact: Verdict | Update
    source: str
    id: str
    digest: str
    occurred_at: datetime

    @property
    def order_id(self) -> str:
        return self.event.subject

    @property
    def sequence(self) -> int | None:
        """The CloudEvents extension `sequence` where it is a whole number that a bigint holds."""
        sequence = self.event.extensions.get("sequence", "")
        return int(sequence) if _WHOLE_NUMBER.fullmatch(sequence) else None

    @property
    def validated_by(self) -> str | None:
        """The revision of validate that made this event."""
        return self.event.extensions.get("validatedby")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the ledger.

    versions are the first and the last order version that the event brought about. sequence is the number that the
    producer gave the event. previous_outcome is the outcome of the row that this entry replaces, None for a new row.
    """

    source: str
    id: str
    kind: str
    digest: str
    outcome: Outcome
    reason: Reason | None
    versions: tuple[int, int] | None
    occurred_at: datetime
    sequence: int | None = None
    validated_by: str | None = None
    previous_outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database holds that matters to one arrival.

    entry is the ledger's row of the arrival itself, changes are the history rows that the arrival brought about,
    waiting are the order's events that came too early, document is the order as JSON. lock counts the writes to the
    order (0: the order has no row); a write names the count that its reader saw.
    """

    lock: int = 0
    state: OrderState | None = None
    document: str = ""
    entry: LedgerEntry | None = None
    changes: tuple[Change, ...] = ()
    waiting: tuple[Arrival, ...] = ()


@dataclass(slots=True)
class Plan:
    """What to write, in one transaction, and what to publish after the commit."""

    arrival: Arrival
    lock: int = 0
    document: str = ""
    entries: list[LedgerEntry] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    waits: bool = False
    announced: list[CloudEvent] = field(default_factory=list)
    parked: list[CloudEvent] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        return bool(self.entries)

    @property
    def outcome(self) -> str:
        """The ledger's outcome of the arrival or, where nothing is written, `duplicate`."""
        return self.entries[0].outcome.value if self.entries else "duplicate"

    @property
    def state(self) -> OrderState | None:
        return self.changes[-1].state if self.changes else None


def read(event: CloudEvent) -> Arrival:
    """Reads an event of the events topic. Raises PoisonError where it is none, or where the data does not fit the
    type."""
    kind = kind_of(event.type)
    missing = [name for name in ("originsource", "originid", "origindigest") if name not in event.extensions]
    if missing or not event.subject:
        raise PoisonError(
            Reason("attribute_missing", missing[0] if missing else "subject", "validate always sets this")
        )
    model: type[Verdict | Update] | None = UPDATES.get(kind or "")
    if kind in VERDICTS and (model is None or _ORDER_MEMBER.search(event.data)):
        model = VERDICTS[kind]
    if model is None:
        raise PoisonError(Reason("type_unknown", "type", "the lifecycle has no such event"))
    return Arrival(
        event=event,
        fact=parse(model, event.data),
        source=event.extensions["originsource"],
        id=event.extensions["originid"],
        digest=event.extensions["origindigest"],
        occurred_at=moment(event.time),
    )


def plan(arrival: Arrival, snapshot: Snapshot, revision: str) -> Plan:
    """Decides one arrival. A duplicate publishes again what was recorded. Any other event goes through the lifecycle,
    and the events that waited for it follow in the order in which they happened.

    An event that was parked or refused and that an operator replays (extension `replay`) is decided anew, with the
    content that the replayed event has: the operator may have edited it.
    """
    result = Plan(arrival, lock=snapshot.lock, document=snapshot.document)
    entry = snapshot.entry
    previous_outcome = entry.outcome if entry is not None else None
    is_replay = "replay" in arrival.event.extensions and previous_outcome in _REPLAYABLE
    if entry is not None and not is_replay:
        _repeat(result, entry, snapshot.changes, revision)
        return result
    if isinstance(arrival.fact, Verdict) and snapshot.state is None:
        result.document = arrival.fact.order.model_dump_json(exclude_none=True)
    decision = lifecycle.decide(snapshot.state, arrival.fact, arrival.digest)
    _record(result, arrival, decision, revision, previous_outcome=previous_outcome)
    result.waits = decision.outcome is Outcome.WAITING
    if decision.outcome is Outcome.APPLIED and snapshot.waiting:
        _apply_waiting(result, snapshot.waiting, revision)
        first, last = result.changes[0].state.version, result.changes[-1].state.version
        result.entries[0] = _ledger_entry(arrival, decision, (first, last), previous_outcome=previous_outcome)
    _announce(result, snapshot.waiting)
    return result


def _apply_waiting(result: Plan, waiting: Sequence[Arrival], revision: str) -> None:
    """Decides the waiting events again, the earliest first, until no more of them can be applied."""
    remaining = sorted(waiting, key=lambda each: (each.occurred_at, each.source, each.id))
    applied = True
    while applied:
        applied = False
        for each in list(remaining):
            decision = lifecycle.decide(result.state, each.fact, each.digest)
            if decision.outcome is Outcome.WAITING:
                continue
            remaining.remove(each)
            _record(result, each, decision, revision, previous_outcome=Outcome.WAITING)
            if decision.outcome is Outcome.APPLIED:
                applied = True
                break


def _announce(result: Plan, waiting: Sequence[Arrival]) -> None:
    """The status events of all changes belong to the arrival's trace. The trace that a waiting event came with ended
    long ago, so its status event only links to that trace."""
    traces = {(each.source, each.id): each.event.extensions.get(trace_context.PARENT) for each in waiting}
    for change in result.changes:
        event = status_event(result.arrival.order_id, result.document, change, result.arrival.event)
        trace = traces.get((change.source, change.id))
        result.announced.append(replace(event, links=(trace,)) if trace else event)


def _record(
    result: Plan,
    arrival: Arrival,
    decision: lifecycle.Decision,
    revision: str,
    *,
    previous_outcome: Outcome | None,
) -> None:
    versions = None
    if decision.outcome is Outcome.APPLIED and decision.state is not None:
        versions = (decision.state.version, decision.state.version)
        detail = arrival.fact.model_dump(mode="json", exclude={"order"}, exclude_none=True)
        result.changes.append(
            Change(arrival.source, arrival.id, arrival.fact.kind, decision.state, detail, arrival.occurred_at)
        )
    if decision.outcome is Outcome.PARKED and decision.reason is not None:
        parked = _park(arrival.event, decision.reason, revision)
        if arrival is not result.arrival:
            parked = trace_context.relink(parked, result.arrival.event)
        result.parked.append(parked)
    result.entries.append(_ledger_entry(arrival, decision, versions, previous_outcome=previous_outcome))


def _ledger_entry(
    arrival: Arrival,
    decision: lifecycle.Decision,
    versions: tuple[int, int] | None,
    *,
    previous_outcome: Outcome | None,
) -> LedgerEntry:
    return LedgerEntry(
        source=arrival.source,
        id=arrival.id,
        kind=arrival.fact.kind,
        digest=arrival.digest,
        outcome=decision.outcome,
        reason=decision.reason,
        versions=versions,
        occurred_at=arrival.occurred_at,
        sequence=arrival.sequence,
        validated_by=arrival.validated_by,
        previous_outcome=previous_outcome,
    )


def _repeat(result: Plan, entry: LedgerEntry, changes: Sequence[Change], revision: str) -> None:
    """A duplicate: nothing is written, and what the first delivery published is published again under the same ids."""
    arrival = result.arrival
    if entry.digest != arrival.digest:
        reason = Reason("event_id_reused", "id", "another event with other content has this source and id")
        result.parked.append(_park(arrival.event, reason, revision))
        return
    if entry.outcome is Outcome.PARKED and entry.reason is not None:
        result.parked.append(_park(arrival.event, entry.reason, revision))
    result.announced = [
        status_event(arrival.order_id, result.document, change, arrival.event) for change in changes
    ]


def _park(event: CloudEvent, reason: Reason, revision: str) -> CloudEvent:
    received = parked_event.ReceivedEvent.of_cloudevent(event)
    topic_id = event.place.topic_id if event.place else ""
    return parked_event.parked(received, stage=STAGE, revision=revision, reasons=[reason], topic_id=topic_id)


def expired(event: CloudEvent, revision: str) -> CloudEvent:
    """The parked event of an event that waited too long."""
    return trace_context.relink(_park(event, WAITED_TOO_LONG, revision))
