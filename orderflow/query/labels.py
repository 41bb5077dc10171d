"""The texts of the console: states, alerts, actions and their outcomes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from orderflow.domain.attention import STUCK_CODES
from orderflow.domain.deadlines import SEQUENCE_GAP, WAITING_EXPIRES
from orderflow.query.formats import HOUR, duration
from orderflow.query.store.statistics import Need

if TYPE_CHECKING:
    from orderflow.domain.deadlines import Alert
    from orderflow.query.store.read_model import ActionResult, Gap

SEVERITIES: Final = {
    # status
    "placed": "info",
    "held": "warning",
    "awaited": "warning",
    "accepted": "info",
    "rejected": "danger",
    "cancelled": "secondary",
    "packed": "info",
    "shipped": "info",
    "delivered": "success",
    "returned": "secondary",
    # payment
    "unpaid": "secondary",
    "authorised": "info",
    "paid": "success",
    "failed": "danger",
    "declined": "danger",
    "refunded": "secondary",
    # outcome
    "applied": "success",
    "waiting": "warning",
    "refused": "secondary",
    "parked": "danger",
    # actions of operators
    "done": "success",
    "asked": "warning",
    "sending": "warning",
    "replayed": "info",
    # releases
    "Healthy": "success",
    "Progressing": "info",
    "Paused": "warning",
    "Degraded": "danger",
    "stable": "success",
    "canary": "info",
    "aborted": "danger",
    "passed": "success",
    "current": "info",
    "fine": "success",
    "worse": "danger",
    "different": "warning",
    "too few": "secondary",
    "Running": "info",
    "Successful": "success",
    "Failed": "danger",
    "Error": "warning",
    "Inconclusive": "warning",
    "Promoted": "success",
    "Adopted": "secondary",
    "Aborted": "danger",
    # notifications and parked events
    "sent": "success",
    "open": "danger",
}
"""The colour of a state, by Bootstrap's names. A colour only repeats what the word says."""

NEEDS: Final = {
    "held": ("Held for review", "An operator has to release or cancel them."),
    "parked": ("Parked events", "Events that could not be handled, with their content."),
    "awaited": ("Waiting for an order", "Events came for orders that were not placed yet."),
    "refund_due": ("Refund due", "Paid, but cancelled, rejected or returned."),
    "unpaid": ("Shipped, not paid", "The goods were shipped, and no payment has come."),
    "stuck": ("Stuck", "Longer in one state than the shop allows."),
    "waiting_expires": ("Waiting expires", "Events that have waited long; soon they are parked."),
    "sequence_gap": ("Numbers missing", "A producer numbers its events, and one has not come."),
    "notification_failed": ("Notifications failed", "A customer or a shop was not notified."),
}
"""The needs on the start page, in this order: a title and a sentence."""

STUCK: Final = {
    "stuck_awaited": ("Stuck: not placed", "events have waited for {age} for the order to be placed"),
    "stuck_held": ("Stuck: held", "held for {age}"),
    "stuck_accepted": ("Stuck: not packed", "accepted for {age}, and neither packed nor shipped"),
    "stuck_packed": ("Stuck: not shipped", "packed for {age}, and not shipped"),
    "stuck_shipped": ("Stuck: not delivered", "shipped for {age}, and not delivered"),
    "stuck_unpaid": ("Stuck: not paid", "not paid for {age}"),
    "stuck_authorised": ("Stuck: not captured", "authorised for {age}, and not paid"),
}
"""Each alert of an exceeded limit: a title and a phrase."""

NEED_OPTIONS: Final = [
    *((name, title) for name, (title, _) in NEEDS.items() if name != "parked"),
    *((code, title) for code, (title, _) in STUCK.items()),
]
"""The options of the list of orders: value and text."""

NEED_OF_ORDER: Final = {
    "held": "held for review",
    "awaited": "not placed yet",
    "refund_due": "refund due",
    "unpaid": "shipped, not paid",
}

ORDER_ACTIONS: Final = {
    "awaited": ("cancel",),
    "placed": ("hold", "cancel"),
    "held": ("release", "cancel"),
    "accepted": ("hold", "cancel"),
    "packed": ("hold", "cancel"),
}
"""The actions that an order's status allows; no other status allows any."""

CONSEQUENCES: Final = {
    "hold": "The order is held for review: nothing is packed or shipped until it is released or cancelled.",
    "release": "The order continues from where it was held. Events that waited meanwhile are applied.",
    "cancel": "The order is cancelled. This cannot be undone, and is refused once the goods are shipped.",
    "replay": "The event is sent again, unchanged, to the stage that could not handle it. It takes effect once,"
    " however often it is sent. An event that fails again is parked again.",
    "discard": "The parked event is closed: it is kept, but never handled. This cannot be undone.",
    "edit": "The event is sent to the inbox as you write it here, and is validated like any other. It keeps its"
    " source and id, so that it takes effect once.",
}
"""What an action does, for the page that asks whether to do it."""

ROLLOUT_VERBS: Final = {
    "promote": "Promote",
    "promote-full": "Promote in full",
    "pause": "Pause",
    "retry": "Retry",
    "abort": "Abort",
}
ROLLOUT_CONSEQUENCES: Final = {
    "promote": "The release continues after its present step. Later analyses still judge it.",
    "promote-full": "All remaining steps and analyses are skipped, and all traffic goes to the new revision.",
    "pause": "The release stays at its step until it is promoted. Analyses go on, and one that fails aborts it.",
    "retry": "The revision is tried again from the first step, or what could not be measured is measured again.",
    "abort": "All traffic goes back to the stable revision at once, and stays there.",
}

STAGES: Final = {
    "validate": "verdicts that reached track",
    "track": "events, by outcome",
    "notify": "notifications",
    "shelve": "parked events, by the stage that parked them",
}
"""The stages that write to the database, and what their rates count; intake and park write nothing there."""

_EVENT_OUTCOMES: Final = {
    "applied": "it took effect",
    "waiting": "it waits for an earlier event",
    "refused": "it came too late, and changed nothing",
    "parked": "it was parked again, and is open",
}


def outcome_of(action: ActionResult) -> tuple[str, str]:
    """The outcome of an action: a word and a sentence."""
    reason = action.refusal if action.outcome == "refused" else action.event_reason
    if action.outcome == "refused":
        return "refused", f"nothing was done: {reason['text']}" if reason else "nothing was done"
    if action.kind == "discarded":
        return "done", "the event is closed, and kept"
    if action.kind == "extended":
        return "done", f"{action.detail.get('events', 0)} waiting events wait longer"
    if action.event_outcome in _EVENT_OUTCOMES:
        text = _EVENT_OUTCOMES[action.event_outcome]
        return action.event_outcome, f"{text}: {reason['text']}" if reason else text
    if action.parked_state == "open":
        return "parked", _EVENT_OUTCOMES["parked"]
    if action.outcome == "sending":
        return "under way", "it is being sent"
    if action.parked_stage in {"notify", "shelve"}:
        return "sent", "it was sent again; if it fails again, it is parked again"
    return "under way", "it was sent"


def alert_text(alert: Alert, now: datetime | None = None) -> str:
    """The alert with the limit that is exceeded, without a capital letter and a full stop."""
    age = abs(((now or datetime.now(UTC)) - alert.since).total_seconds())
    if alert.code == WAITING_EXPIRES:
        return f"an event that waits is parked in {duration(age)}"
    if alert.code == SEQUENCE_GAP:
        text = f"a number has been missing from a producer's sequence for {duration(age)}"
    else:
        text = STUCK[alert.code][1].format(age=duration(age))
    return f"{text}; the shop's limit is {duration(alert.hours * HOUR)}"


def stuck_need(alerts: dict[str, Need]) -> dict[str, Need]:
    """All alerts of exceeded limits as one need; empty where there is none."""
    stuck = [need for code, need in alerts.items() if code in STUCK_CODES]
    oldest = min((need.oldest for need in stuck if need.oldest), default=None)
    return {"stuck": Need("stuck", sum(need.count for need in stuck), oldest)} if stuck else {}


def gap_text(gap: Gap) -> str:
    """The missing numbers, without a capital letter and a full stop."""
    if gap.first == gap.last:
        return f"number {gap.first} of {gap.source} has not come"
    return f"numbers {gap.first} to {gap.last} of {gap.source} have not come"


def severity(word: str) -> str:
    return SEVERITIES.get(word, "secondary")
