"""What track would do to an order in a given state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orderflow.domain.events import parse
from orderflow.errors import PoisonError
from orderflow.messaging import cloudevent
from orderflow.messaging.judgement import PARKED, Judgement, TrackQuestion
from orderflow.messaging.position import Decided
from orderflow.track import decision
from orderflow.track.decision import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable


def judge(_: Iterable[tuple[bytes, bytes]], body: bytes) -> Judgement:
    """body is a TrackQuestion. Raises PoisonError, which names the field, where it is none."""
    question = parse(TrackQuestion, body)
    try:
        arrival = decision.read(_event(question.event))
    except PoisonError as error:
        return Judgement(outcome=PARKED, reasons=error.reasons)
    sequence = question.decided_sequence
    decided = {} if sequence is None else {arrival.source: Decided(sequence=sequence)}
    snapshot = Snapshot(state=question.order, decided=decided, replay_known=question.replay_known)
    plan = decision.plan(arrival, snapshot, "")
    (entry,) = plan.entries
    reasons = () if entry.reason is None else (entry.reason,)
    if not plan.changes:
        return Judgement(outcome=entry.outcome, reasons=reasons)
    (change,) = plan.changes
    document = json.loads(plan.document) if plan.document else None
    return Judgement(
        outcome=entry.outcome, reasons=reasons, order=change.state, detail=change.detail, document=document
    )


def _event(structured: dict[str, Any]) -> cloudevent.CloudEvent:
    headers = [(b"content-type", cloudevent.STRUCTURED.encode())]
    return cloudevent.from_http(headers, json.dumps(structured).encode())
