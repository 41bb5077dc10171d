"""What an event does to its order, decided without a database: rows to write and events to announce."""

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

    from orderflow.messaging.cloudevent import Envelope

STAGE: Final = "track"
_HAS_ORDER: Final = re.compile(rb'"order"\s*:')
"""Within a JSON text every quote is escaped, so this finds members only."""
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_DECIDED_ANEW: Final = frozenset({Outcome.PARKED, Outcome.REFUSED})
"""What an operator's replay can change; anything else has taken effect or still may."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event at track: the fact, and the (source, id) and digest of the event that it came from."""

    event: Envelope
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
        given = self.event.extensions.get("sequence", "")
        return int(given) if _WHOLE_NUMBER.fullmatch(given) else None

    @property
    def validated_by(self) -> str | None:
        """The revision of validate whose verdict this is."""
        return self.event.extensions.get("validatedby")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the ledger. versions are the first and the last that the event brought about, sequence is the
    number that its producer gave it. was is the outcome of a row that is there already, None for a new one.
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
    was: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database knows that matters to one arrival.

    known is the ledger's row of the arrival itself, changes the history that it brought about, waiting the
    events of the order that came too early, document the order as JSON. lock counts the writes to the
    order (0: there was none); whoever writes says which count they read.
    """

    lock: int = 0
    state: OrderState | None = None
    document: str = ""
    known: Record | None = None
    changes: tuple[Change, ...] = ()
    waiting: tuple[Arrival, ...] = ()


@dataclass(slots=True)
class Plan:
    """What to write, in one transaction, and what to publish once it is written."""

    arrival: Arrival
    lock: int = 0
    document: str = ""
    records: list[Record] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    waits: bool = False
    announced: list[Envelope] = field(default_factory=list)
    parked: list[Envelope] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        return bool(self.records)

    @property
    def outcome(self) -> str:
        """What became of the arrival: the ledger's word or, where nothing is written, `duplicate`."""
        return self.records[0].outcome.value if self.records else "duplicate"

    @property
    def state(self) -> OrderState | None:
        return self.changes[-1].state if self.changes else None


def arrival(event: Envelope) -> Arrival:
    """Reads an event of the events topic. Raises PoisonError where it is none, or its data is not its type's."""
    kind = kind_of(event.type)
    missing = [name for name in ("originsource", "originid", "origindigest") if name not in event.extensions]
    if missing or not event.subject:
        raise PoisonError(
            Reason("attribute_missing", missing[0] if missing else "subject", "validate always sets this")
        )
    model: type[Verdict | Update] | None = UPDATES.get(kind or "")
    if kind in VERDICTS and (model is None or _HAS_ORDER.search(event.data)):
        model = VERDICTS[kind]
    if model is None:
        raise PoisonError(Reason("type_unknown", "type", "the lifecycle has no such event"))
    origin = event.extensions
    return Arrival(
        event=event,
        fact=parse(model, event.data),
        source=origin["originsource"],
        id=origin["originid"],
        digest=origin["origindigest"],
        occurred_at=moment(event.time),
    )


def plan(now: Arrival, known: Snapshot, revision: str) -> Plan:
    """Decides one arrival: a duplicate repeats what was recorded, anything else goes through the lifecycle,
    and what waited for it follows in the order in which it happened.

    An event that was parked or refused and that an operator replays (extension `replay`) is decided anew, with
    the content that it has now: they may have mended it.
    """
    result = Plan(now, lock=known.lock, document=known.document)
    was = known.known.outcome if known.known is not None else None
    if known.known is not None and not ("replay" in now.event.extensions and was in _DECIDED_ANEW):
        _repeat(result, known.known, known.changes, revision)
        return result
    if isinstance(now.fact, Verdict) and known.state is None:
        result.document = now.fact.order.model_dump_json(exclude_none=True)
    decision = lifecycle.decide(known.state, now.fact, now.digest)
    _record(result, now, decision, revision, was=was)
    result.waits = decision.outcome is Outcome.WAITING
    if decision.outcome is Outcome.APPLIED and known.waiting:
        _let_follow(result, known.waiting, revision)
        first, last = result.changes[0].state.version, result.changes[-1].state.version
        result.records[0] = _ledger_row(now, decision, (first, last), was=was)
    # What waited is announced because of this event; the trace that it came with has long ended.
    early = {
        (each.source, each.id): each.event.extensions.get(trace_context.PARENT) for each in known.waiting
    }
    for change in result.changes:
        was_trace = early.get((change.source, change.id)) if early else None
        event = status_event(now.order_id, result.document, change, now.event)
        result.announced.append(replace(event, links=(was_trace,)) if was_trace else event)
    return result


def _let_follow(result: Plan, waiting: Sequence[Arrival], revision: str) -> None:
    left = sorted(waiting, key=lambda early: (early.occurred_at, early.source, early.id))
    again = True
    while again:
        again = False
        for early in list(left):
            decision = lifecycle.decide(result.state, early.fact, early.digest)
            if decision.outcome is Outcome.WAITING:
                continue
            left.remove(early)
            _record(result, early, decision, revision, was=Outcome.WAITING)
            if decision.outcome is Outcome.APPLIED:
                again = True
                break


def _record(
    result: Plan,
    event: Arrival,
    decision: lifecycle.Decision,
    revision: str,
    *,
    was: Outcome | None,
) -> None:
    versions = None
    if decision.outcome is Outcome.APPLIED and decision.state is not None:
        versions = (decision.state.version, decision.state.version)
        detail = event.fact.model_dump(mode="json", exclude={"order"}, exclude_none=True)
        result.changes.append(
            Change(event.source, event.id, event.fact.kind, decision.state, detail, event.occurred_at)
        )
    if decision.outcome is Outcome.PARKED and decision.reason is not None:
        parked = _parked(event, decision.reason, revision)
        result.parked.append(
            parked if event is result.arrival else trace_context.moved(parked, result.arrival.event)
        )
    result.records.append(_ledger_row(event, decision, versions, was=was))


def _ledger_row(
    event: Arrival, decision: lifecycle.Decision, versions: tuple[int, int] | None, *, was: Outcome | None
) -> Record:
    return Record(
        source=event.source,
        id=event.id,
        kind=event.fact.kind,
        digest=event.digest,
        outcome=decision.outcome,
        reason=decision.reason,
        versions=versions,
        occurred_at=event.occurred_at,
        sequence=event.sequence,
        validated_by=event.validated_by,
        was=was,
    )


def _repeat(result: Plan, known: Record, changes: Sequence[Change], revision: str) -> None:
    """A duplicate: nothing is written, what its first handling gave is published again under the same ids."""
    now = result.arrival
    if known.digest != now.digest:
        reason = Reason("event_id_reused", "id", "another event with other content has this source and id")
        result.parked.append(_parked(now, reason, revision))
    elif known.outcome is Outcome.PARKED and known.reason is not None:
        result.parked.append(_parked(now, known.reason, revision))
    result.announced = [
        status_event(now.order_id, result.document, change, now.event)
        for change in (changes if known.digest == now.digest else ())
    ]


def _parked(event: Arrival, reason: Reason, revision: str) -> Envelope:
    return parked_event.parked(
        parked_event.Letter.of_envelope(event.event), stage=STAGE, revision=revision, reasons=[reason]
    )


def expired(event: Envelope, revision: str) -> Envelope:
    """The parked event of one that waited in vain."""
    reason = Reason("waited_too_long", "type", "what this event needs to come first never came")
    letter = parked_event.Letter.of_envelope(event)
    return trace_context.moved(parked_event.parked(letter, stage=STAGE, revision=revision, reasons=[reason]))
