"""Conditions, as `kubectl wait` and people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from knrollout.api.status import Condition
from knrollout.decide import traffic

if TYPE_CHECKING:
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import View

Kind = Literal["Healthy", "Paused", "Aborted", "TrafficAsWritten"]


def conditions(view: View, status: Status) -> tuple[Condition, ...]:
    edited = view.service is not None and bool(status.wanted) and traffic.is_edited(view.service, status)
    return (
        _condition(view, "Healthy", status.phase == "Healthy", status.reason, status.message),
        _condition(view, "Paused", status.phase == "Paused", status.reason, status.message),
        _aborted(view, status),
        _condition(view, "TrafficAsWritten", not edited, "Edited" if edited else "AsWritten", ""),
    )


def _aborted(view: View, status: Status) -> Condition:
    if status.aborted is None:
        return _condition(view, "Aborted", False, "NotAborted", "")
    return _condition(view, "Aborted", True, status.aborted.reason, status.aborted.message)


def _condition(view: View, kind: Kind, holds: bool, reason: str, message: str) -> Condition:
    """The time is that of the last change of holds, not of words."""
    said: Literal["True", "False"] = "True" if holds else "False"
    before = (old for old in view.rollout.status.conditions if old.type == kind and old.status == said)
    since = next((old.last_transition_time for old in before), view.now)
    return Condition(type=kind, status=said, reason=reason, message=message, last_transition_time=since)
