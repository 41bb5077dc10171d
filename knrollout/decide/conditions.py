"""The status conditions, for `kubectl wait` and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from knrollout.api.status import Condition
from knrollout.decide import traffic

if TYPE_CHECKING:
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import Snapshot

ConditionType = Literal["Healthy", "Paused", "Aborted", "TrafficAsWritten"]


def current_conditions(snapshot: Snapshot, status: Status) -> tuple[Condition, ...]:
    service = snapshot.service
    edited = service is not None and bool(status.newest_split) and traffic.is_edited(service, status)
    return (
        _condition(snapshot, "Healthy", status.phase == "Healthy", status.reason, status.message),
        _condition(snapshot, "Paused", status.phase == "Paused", status.reason, status.message),
        _aborted(snapshot, status),
        _condition(snapshot, "TrafficAsWritten", not edited, "Edited" if edited else "AsWritten", ""),
    )


def _aborted(snapshot: Snapshot, status: Status) -> Condition:
    if status.aborted is None:
        return _condition(snapshot, "Aborted", False, "NotAborted", "")
    return _condition(snapshot, "Aborted", True, status.aborted.reason, status.aborted.message)


def _condition(
    snapshot: Snapshot, condition_type: ConditionType, holds: bool, reason: str, message: str
) -> Condition:
    """The transition time changes with `holds` only, not with the reason or the message."""
    value: Literal["True", "False"] = "True" if holds else "False"
    unchanged = (
        old
        for old in snapshot.rollout.status.conditions
        if old.type == condition_type and old.status == value
    )
    since = next((old.last_transition_time for old in unchanged), snapshot.now)
    return Condition(
        type=condition_type, status=value, reason=reason, message=message, last_transition_time=since
    )
