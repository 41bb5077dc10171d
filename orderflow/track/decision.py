"""What an event does to its order, decided without a database: rows to write and events to publish."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from orderflow.domain import lifecycle
from orderflow.domain.digests import Digests
from orderflow.domain.events import UPDATES, VERDICTS, Update, Verdict, kind_of, parse
from orderflow.domain.lifecycle import OrderState, Outcome
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, trace_context
from orderflow.messaging.cloudevent import moment
from orderflow.messaging.makers import TAKEN_BY, VALIDATED_BY, maker
from orderflow.messaging.position import Decided, Position, in_sequence
from orderflow.messaging.status_event import Change, status_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orderflow.messaging.cloudevent import CloudEvent

STAGE: Final = "track"
WAITED_TOO_LONG: Final = Reason("waited_too_long", "type", "what this event needs to come first never came")
TOO_MANY_WAIT: Final = Reason(
    "too_many_wait", "subject", "too many events wait for this order; a replay tries this event again"
)
_ORDER_MEMBER: Final = re.compile(rb'"order"\s*:')
"""Finds a member of that name only: within a JSON string, every quote is escaped."""
_REPLAYABLE: Final = frozenset({Outcome.PARKED, Outcome.REFUSED})
"""The outcomes that an operator's replay can change. An event with any other outcome has taken effect or still may."""
_DECIDED: Final = frozenset({Outcome.APPLIED, Outcome.REFUSED})
"""The outcomes that overtake what comes later. A parked or waiting event may still come to its turn."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event that track handles: the fact, and the source, id and digests of the inbox event that it came from.

    content_digest is empty where an older release of validate made the event.
    """

    event: CloudEvent
    fact: Verdict | Update
    source: str
    id: str
    digest: str
    occurred_at: datetime
    position: Position
    content_digest: str = ""

    @property
    def order_id(self) -> str:
        return self.event.subject

    @property
    def digests(self) -> Digests:
        return Digests(self.digest, self.content_digest)

    @property
    def replay(self) -> str | None:
        """The id of the operator's action that sent the event again."""
        return self.event.extensions.get("replay")

    def without_replay(self) -> Arrival:
        event = self.event.without_extensions("replay")
        return replace(self, event=event, position=Position.of(event.extensions))

    @property
    def validated_by(self) -> str | None:
        """The revision of validate that made this event."""
        return maker(self.event, VALIDATED_BY) or None

    @property
    def taken_by(self) -> str | None:
        """The revision of intake that took the inbox event."""
        return maker(self.event, TAKEN_BY) or None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the ledger.

    versions are the first and the last order version that the event brought about. sequence is the number that the
    producer gave the event. replays are the operators' replays that were decided. former_digests are digests of the
    contents that an edit replaced. previous_outcome is the outcome of the row that this entry replaces, None for a new
    row.
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
    taken_by: str | None = None
    previous_outcome: Outcome | None = None
    content_digest: str = ""
    replays: tuple[str, ...] = ()
    former_digests: tuple[str, ...] = ()

    @property
    def digests(self) -> Digests:
        return Digests(self.digest, self.content_digest)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database holds that matters to one arrival.

    entry is the ledger's row of the arrival itself, changes are the history rows that the arrival brought about.
    waits: events wait for this order; waiting are these events, where they have been read. may_wait is False where so
    many wait that no further one may. document is the order as JSON. decided is, by source, how far the order's events
    are decided. replay_known: the operators' table has the arrival's replay as one of this event. lock counts the
    writes to the order (0: the order has no row); a write names the count that its reader saw.
    """

    lock: int = 0
    state: OrderState | None = None
    document: str = ""
    entry: LedgerEntry | None = None
    changes: tuple[Change, ...] = ()
    waits: bool = False
    may_wait: bool = True
    waiting: tuple[Arrival, ...] = ()
    decided: Mapping[str, Decided] = field(default_factory=dict)
    replay_known: bool = False


@dataclass(slots=True)
class Plan:
    """What to write, in one transaction, and what to publish after the commit. poison is the error of an arrival that
    leaves no trace in the ledger."""

    arrival: Arrival
    lock: int = 0
    document: str = ""
    decided: dict[str, Decided] = field(default_factory=dict)
    entries: list[LedgerEntry] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    waits: bool = False
    announced: list[CloudEvent] = field(default_factory=list)
    parked: list[CloudEvent] = field(default_factory=list)
    poison: PoisonError | None = None

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
        position=Position.of(event.extensions),
        content_digest=event.extensions.get("contentdigest", ""),
    )


def plan(arrival: Arrival, snapshot: Snapshot, revision: str) -> Plan:
    """Decides one arrival. A duplicate publishes again what was recorded. Any other event goes through the lifecycle,
    and the events that waited for it follow in sequence.

    An event that was parked or refused and that an operator replays (extension `replay`) is decided anew, once for each
    replay, with the content that the replayed event has: the operator may have edited it. A replay that the operators'
    table does not know is one that anybody may have written, and counts for nothing.
    """
    if arrival.replay is not None and not snapshot.replay_known:
        arrival = arrival.without_replay()
    result = Plan(arrival, snapshot.lock, snapshot.document, dict(snapshot.decided))
    entry = snapshot.entry
    if entry is not None and not _is_decided_anew(arrival, entry):
        _repeat(result, entry, snapshot.changes, revision)
        return result
    if isinstance(arrival.fact, Verdict) and snapshot.state is None:
        result.document = arrival.fact.order.model_dump_json(exclude_none=True)
    decision = lifecycle.decide(snapshot.state, arrival.fact, arrival.digest, arrival.content_digest)
    decision = _parked_if_overtaken(decision, arrival, snapshot.decided)
    if decision.outcome is Outcome.WAITING and not snapshot.may_wait:
        result.poison = PoisonError(TOO_MANY_WAIT)
        return result
    _record(
        result, arrival, decision, revision, previous_outcome=entry.outcome if entry is not None else None
    )
    result.waits = decision.outcome is Outcome.WAITING
    if decision.outcome is Outcome.APPLIED and snapshot.waiting:
        _apply_waiting(result, snapshot.waiting, revision)
        first, last = result.changes[0].state.version, result.changes[-1].state.version
        result.entries[0] = replace(result.entries[0], versions=(first, last))
    if arrival.replay is not None:
        result.entries[0] = _with_replay(result.entries[0], entry, arrival.replay)
    _announce(result, snapshot.waiting, revision)
    return result


def _is_decided_anew(arrival: Arrival, entry: LedgerEntry) -> bool:
    return arrival.replay is not None and arrival.replay not in entry.replays and entry.outcome in _REPLAYABLE


def _parked_if_overtaken(
    decision: lifecycle.Decision, arrival: Arrival, decided: Mapping[str, Decided]
) -> lifecycle.Decision:
    """An event that would still change the order, or wait to change it, although a later event of its source was
    decided, is parked: only a person can tell whether it still counts. What is refused or parked anyway stays so."""
    by = decided[arrival.source].overtakes(arrival.position) if arrival.source in decided else ""
    if not by or decision.outcome not in {Outcome.APPLIED, Outcome.WAITING}:
        return decision
    text = (
        f"{arrival.fact.kind} came after a later event of its source was decided; "
        "a replay applies it to the order as it is now"
    )
    reason = Reason(parked_event.OVERTAKEN, "sequence" if by == "sequence" else "", text)
    return lifecycle.Decision(Outcome.PARKED, decision.state, reason)


def _with_replay(entry: LedgerEntry, former: LedgerEntry | None, replay: str) -> LedgerEntry:
    """The entry with the replay that was decided and, where it has other content, with the former content's digests."""
    if former is None:
        return replace(entry, replays=(replay,))
    former_digests = former.former_digests
    if not entry.digests.same_content(former.digests):
        former_digests += tuple(
            digest for digest in former.digests if digest and digest not in former_digests
        )
    return replace(entry, replays=(*former.replays, replay), former_digests=former_digests)


def _apply_waiting(result: Plan, waiting: Sequence[Arrival], revision: str) -> None:
    """Decides the waiting events again, in sequence, until no more of them can be applied.

    A waiting event came in its sequence, so no later event of its source overtakes it when its time comes.
    """
    remaining = in_sequence(waiting)
    applied = True
    while applied:
        applied = False
        for each in list(remaining):
            decision = lifecycle.decide(result.state, each.fact, each.digest, each.content_digest)
            if decision.outcome is Outcome.WAITING:
                continue
            remaining.remove(each)
            _record(result, each, decision, revision, previous_outcome=Outcome.WAITING)
            if decision.outcome is Outcome.APPLIED:
                applied = True
                break


def _announce(result: Plan, waiting: Sequence[Arrival], revision: str) -> None:
    """The status events of all changes belong to the arrival's trace. The trace that a waiting event came with ended
    long ago, so its status event only links to that trace."""
    traces = {(each.source, each.id): each.event.extensions.get(trace_context.PARENT) for each in waiting}
    for change in result.changes:
        cause = result.arrival.event
        event = status_event(cause.subject, result.document, change, cause, revision=revision)
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
    if decision.outcome in _DECIDED:
        _count_as_decided(result.decided, arrival)
    result.entries.append(_ledger_entry(arrival, decision, versions, previous_outcome=previous_outcome))


def _count_as_decided(decided: dict[str, Decided], arrival: Arrival) -> None:
    position = arrival.position
    if position.place is not None or position.sequence is not None:
        decided[arrival.source] = decided.get(arrival.source, Decided()).including(position)


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
        sequence=arrival.position.sequence,
        validated_by=arrival.validated_by,
        taken_by=arrival.taken_by,
        previous_outcome=previous_outcome,
        content_digest=arrival.content_digest,
    )


def _repeat(result: Plan, entry: LedgerEntry, changes: Sequence[Change], revision: str) -> None:
    """A duplicate: nothing is written, and what the first delivery published is published again under the same ids.

    A content that an edit replaced is a duplicate too. It was parked when it was decided, under a reason that the entry
    no longer has.
    """
    arrival = result.arrival
    same_content = arrival.digests.same_content(entry.digests)
    if not same_content and not set(arrival.digests).intersection(entry.former_digests):
        reason = Reason("event_id_reused", "id", "another event with other content has this source and id")
        result.parked.append(_park(arrival.event, reason, revision))
        return
    if same_content and entry.outcome is Outcome.PARKED and entry.reason is not None:
        result.parked.append(_park(arrival.event, entry.reason, revision))
    result.announced = [
        status_event(arrival.order_id, result.document, change, arrival.event, revision=revision)
        for change in changes
    ]


def _park(event: CloudEvent, reason: Reason, revision: str) -> CloudEvent:
    received = parked_event.ReceivedEvent.of_cloudevent(event)
    topic_id = event.place.topic_id if event.place else ""
    return parked_event.parked(received, stage=STAGE, revision=revision, reasons=[reason], topic_id=topic_id)


def expired(event: CloudEvent, revision: str) -> CloudEvent:
    """The parked event of an event that waited too long."""
    return trace_context.relink(_park(event, WAITED_TOO_LONG, revision))
