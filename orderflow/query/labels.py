"""How the console says things: every state in words, and a tone that only repeats in colour what the word says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.deadlines import SEQUENCE_GAP, WAITING_EXPIRES
from orderflow.domain.events import kind_of
from orderflow.domain.money import show
from orderflow.query.store.read_model import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.domain.deadlines import Alert
    from orderflow.query.store.read_model import ActionResult, Gap, Rate

TONES: Final = {
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

NEEDS: Final = {
    "held": ("Held for review", "Somebody has to release or cancel them."),
    "parked": ("Parked events", "Events that could not be handled, kept whole."),
    "awaited": ("Waiting for an order", "Events came of orders that nobody has placed yet."),
    "refund_due": ("Refund due", "Paid, but cancelled, rejected or returned."),
    "unpaid": ("Shipped, not paid", "The goods are gone and no money has come."),
    "stuck": ("Stuck", "Longer where they stand than the shop allows."),
    "waiting_expires": ("Waiting runs out", "What they wait for has not come; soon they are parked."),
    "sequence_gap": ("Numbers missing", "A producer counts its events, and one has not come."),
    "notification_failed": ("Notifications failed", "A customer or a shop was not told."),
}
"""Why something needs a hand: a title, a sentence. In the order in which the start page shows them."""

STUCK: Final = {
    "stuck_awaited": ("Stuck: not placed", "events have waited for its placing for {age}"),
    "stuck_held": ("Stuck: held", "held for {age}"),
    "stuck_accepted": ("Stuck: not packed", "accepted for {age}, and neither packed nor shipped"),
    "stuck_packed": ("Stuck: not shipped", "packed for {age}, and not shipped"),
    "stuck_shipped": ("Stuck: not delivered", "shipped for {age}, and not delivered"),
    "stuck_unpaid": ("Stuck: not paid", "not paid for {age}"),
    "stuck_authorised": ("Stuck: not captured", "authorised for {age}, and not paid"),
}
"""What is over the shop's limit: a title, and how it stands."""

NEEDS_OF_ORDERS: Final = [
    *((name, title) for name, (title, _) in NEEDS.items() if name != "parked"),
    *((code, title) for code, (title, _) in STUCK.items()),
]
"""What a list of orders can be narrowed to."""

NEED_OF_ORDER: Final = {
    "held": "held for review",
    "awaited": "not placed yet",
    "refund_due": "refund due",
    "unpaid": "shipped, not paid",
}

ACTS: Final = {
    "awaited": ("cancel",),
    "placed": ("hold", "cancel"),
    "held": ("release", "cancel"),
    "accepted": ("hold", "cancel"),
    "packed": ("hold", "cancel"),
}
"""What can be done with an order, by its status; with all others nothing can."""

WILL: Final = {
    "hold": "The order is held for review: nothing is packed or shipped until it is released or cancelled.",
    "release": "The order goes on from where it was held, and what waited meanwhile follows.",
    "cancel": "The order is called off. That cannot be taken back, and is refused once the goods have moved.",
    "replay": "What is sent again goes to the stage that could not handle it, as it was, and takes effect once,"
    " however often that happens. What fails again is parked again.",
    "discard": "The parked event is closed: it is kept, and never handled. That cannot be taken back.",
    "edit": "The event is sent to the inbox as you write it here, and is validated like any other. It keeps its"
    " source and id, so that it takes effect once.",
}
"""What an action will do, for whoever is asked whether it shall be done."""

ROLLOUT_VERBS: Final = {
    "promote": "Promote",
    "promote-full": "Promote in full",
    "pause": "Pause",
    "retry": "Retry",
    "abort": "Abort",
}
ROLLOUT_WILL: Final = {
    "promote": "The release goes on past the step where it is. Analyses that follow still judge it.",
    "promote-full": "All steps and analyses that are left are skipped, and all traffic goes to the new revision.",
    "pause": "The release stays at its step until it is promoted. Analyses go on, and one that fails sends it back.",
    "retry": "The revision is tried again from the first step, or what could not be measured is measured again.",
    "abort": "All traffic goes back to the stable revision at once, and stays there.",
}
"""What an operator can do with a release, and what it will do."""

STAGES: Final = {
    "validate": "verdicts that reached track",
    "track": "events, by what became of them",
    "notify": "notifications",
    "shelve": "parked events, by the stage they come from",
}
"""What each stage leaves in the database; intake and park leave nothing there."""

_ENDINGS: Final = {
    "applied": "it took effect",
    "waiting": "it waits for what must come before it",
    "refused": "it comes too late, and changed nothing",
    "parked": "it was parked again, and is open",
}

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def outcome_of(action: ActionResult) -> tuple[str, str]:
    """What became of an action, in a word and in a sentence."""
    reason = action.refusal if action.outcome == "refused" else action.event_reason
    if action.outcome == "refused":
        return "refused", f"nothing was done: {reason['text']}" if reason else "nothing was done"
    if action.kind == "discarded":
        return "done", "it is closed, and kept"
    if action.kind == "extended":
        return "done", f"{action.detail.get('events', 0)} waiting events wait longer"
    if action.event_outcome in _ENDINGS:
        said = _ENDINGS[action.event_outcome]
        return action.event_outcome, f"{said}: {reason['text']}" if reason else said
    if action.parked_state == "open":
        return "parked", _ENDINGS["parked"]
    if action.parked_stage in {"notify", "shelve"}:
        return "sent", "it was sent again; if it fails again, it is parked again"
    return "under way", "it was sent"


def alert(told: Alert, now: datetime | None = None) -> str:
    """An alert as a sentence goes on, with the limit that it is over."""
    age = abs(((now or datetime.now(UTC)) - told.since).total_seconds())
    if told.code == WAITING_EXPIRES:
        return f"an event that waits is parked in {span(age)}"
    if told.code == SEQUENCE_GAP:
        text = f"a number has been missing from a producer's sequence for {span(age)}"
    else:
        text = STUCK[told.code][1].format(age=span(age))
    return f"{text}; the shop's limit is {span(told.hours * _HOUR)}"


def stuck(alerts: dict[str, Need]) -> dict[str, Need]:
    """All that is stuck, for whatever reason, as one need."""
    found = [need for code, need in alerts.items() if code in STUCK]
    oldest = min((need.oldest for need in found if need.oldest), default=None)
    return {"stuck": Need("stuck", sum(need.count for need in found), oldest)} if found else {}


def gap(missing: Gap) -> str:
    """The numbers that are missing, as a sentence goes on."""
    if missing.first == missing.last:
        return f"number {missing.first} of {missing.source} has not come"
    return f"numbers {missing.first} to {missing.last} of {missing.source} have not come"


def tone(word: str) -> str:
    return TONES.get(word, "secondary")


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC, for machines."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """For people, in UTC, in one width so that a column of them can be read down."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """How long something takes or took, in the largest unit that leaves a whole number."""
    seconds = max(seconds, 0)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def ago(moment: datetime, now: datetime) -> str:
    return span((now - moment).total_seconds())


def event_name(event_type: str) -> str:
    """An event type without what all of ours have in common."""
    return kind_of(event_type) or event_type or "(no type)"


def lapse(seconds: float) -> str:
    """How soon something followed: with a decimal while that tells something."""
    return f"{max(seconds, 0):.1f} s" if seconds < _MINUTE else span(seconds)


def sentence(text: str) -> str:
    """A text as a sentence begins; what it says in capitals stays so."""
    return text[:1].upper() + text[1:]


def per_second(count: int) -> str:
    """A count of one minute as a rate."""
    rate = count / _MINUTE
    if rate >= 100:  # noqa: PLR2004
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 1 or not count else f"{rate:.2f}"


def money(amount: int, currency: str) -> str:
    return show(amount, currency) if currency else ""


def bars(rates: Sequence[Rate]) -> list[dict[str, Any]]:
    """The minutes of some rates together as bars of a chart 20 high, the oldest first."""
    totals = [sum(minute) for minute in zip(*(rate.minutes for rate in rates), strict=True)][::-1]
    highest = max(totals, default=0) or 1
    return [
        {
            "x": place * 6,
            "height": (height := max(round(20 * total / highest), 1 if total else 0)),
            "y": 20 - height,
        }
        for place, total in enumerate(totals)
    ]
