"""What an order can go through, as two tables, and the one function that reads them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from orderflow.domain.events import (
    OrderHeld,
    OrderPaid,
    OrderRefunded,
    OrderReleased,
    PaymentFact,
    Update,
    Verdict,
)
from orderflow.domain.money import show
from orderflow.errors import Reason


class Status(StrEnum):
    PLACED = "placed"
    HELD = "held"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    PACKED = "packed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    RETURNED = "returned"


class Payment(StrEnum):
    UNPAID = "unpaid"
    AUTHORISED = "authorised"
    PAID = "paid"
    FAILED = "failed"
    REFUNDED = "refunded"


class Outcome(StrEnum):
    """What became of one event."""

    APPLIED = "applied"
    WAITING = "waiting"
    REFUSED = "refused"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class OrderState:
    """Where an order stands. Amounts in minor units; resumes is what a release goes back to."""

    status: Status
    payment: Payment
    currency: str
    total: int
    captured: int = 0
    refunded: int = 0
    resumes: Status | None = None
    version: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    state: OrderState | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a table: from which states an event leads where, in which others it waits for
    what must come first, and in which it comes too late to matter. In all others it is forbidden."""

    of: frozenset[StrEnum]
    to: StrEnum | None
    waits: frozenset[StrEnum] = field(default_factory=frozenset)
    stale: frozenset[StrEnum] = field(default_factory=frozenset)


def _step(
    of: tuple[StrEnum, ...],
    to: StrEnum | None,
    *,
    waits: tuple[StrEnum, ...] = (),
    stale: tuple[StrEnum, ...] = (),
) -> Step:
    return Step(frozenset(of), to, frozenset(waits), frozenset(stale))


_S = Status
_P = Payment

STATUS: Final[dict[str, Step]] = {
    "accepted": _step((_S.PLACED,), _S.ACCEPTED),
    "rejected": _step((_S.PLACED,), _S.REJECTED),
    "held": _step((_S.PLACED, _S.ACCEPTED, _S.PACKED), _S.HELD, stale=(_S.HELD,)),
    "released": _step((_S.HELD,), None, stale=(_S.PLACED, _S.ACCEPTED, _S.PACKED, _S.SHIPPED, _S.DELIVERED)),
    "cancelled": _step(
        (_S.PLACED, _S.HELD, _S.ACCEPTED, _S.PACKED), _S.CANCELLED, stale=(_S.CANCELLED, _S.REJECTED)
    ),
    "packed": _step(
        (_S.ACCEPTED,), _S.PACKED, waits=(_S.HELD,), stale=(_S.PACKED, _S.SHIPPED, _S.DELIVERED, _S.RETURNED)
    ),
    "shipped": _step(
        (_S.ACCEPTED, _S.PACKED), _S.SHIPPED, waits=(_S.HELD,), stale=(_S.SHIPPED, _S.DELIVERED, _S.RETURNED)
    ),
    "delivered": _step(
        (_S.SHIPPED,),
        _S.DELIVERED,
        waits=(_S.HELD, _S.ACCEPTED, _S.PACKED),
        stale=(_S.DELIVERED, _S.RETURNED),
    ),
    "returned": _step(
        (_S.SHIPPED, _S.DELIVERED), _S.RETURNED, waits=(_S.HELD, _S.ACCEPTED, _S.PACKED), stale=(_S.RETURNED,)
    ),
}

PAYMENT: Final[dict[str, Step]] = {
    "authorised": _step((_P.UNPAID, _P.FAILED), _P.AUTHORISED, stale=(_P.AUTHORISED, _P.PAID, _P.REFUNDED)),
    "paid": _step((_P.UNPAID, _P.AUTHORISED, _P.FAILED), _P.PAID, stale=(_P.PAID, _P.REFUNDED)),
    "declined": _step((_P.UNPAID, _P.AUTHORISED), _P.FAILED, stale=(_P.FAILED, _P.PAID, _P.REFUNDED)),
    "refunded": _step((_P.PAID,), None, waits=(_P.UNPAID, _P.AUTHORISED, _P.FAILED)),
}


def place(verdict: Verdict, digest: str) -> OrderState:
    """The state of an order that nobody has judged yet; digest is that of the placed order's content."""
    return OrderState(
        Status.PLACED, Payment.UNPAID, verdict.order.currency, verdict.order.total, digest=digest
    )


def decide(state: OrderState | None, fact: Verdict | Update, digest: str = "") -> Decision:
    """What the fact does to an order in that state (None: no order of that id is known yet).

    digest is that of the content that the fact came from; it tells a placement repeated under
    another event id from another order under the same order id.
    """
    if isinstance(fact, Verdict):
        if state is not None:
            return _placed_again(state, digest)
        return _follow(STATUS, place(fact, digest), fact)
    if state is None:
        return Decision(
            Outcome.WAITING, reason=Reason("order_unknown", "subject", "the order is not known yet")
        )
    if fact.kind in PAYMENT:
        return _amount_trouble(state, fact) or _follow(PAYMENT, state, fact)
    return _follow(STATUS, state, fact)


def _placed_again(state: OrderState, digest: str) -> Decision:
    if digest == state.digest:
        return Decision(
            Outcome.REFUSED, state, Reason("already_placed", "subject", "the same order was placed before")
        )
    return Decision(
        Outcome.PARKED,
        state,
        Reason("order_id_reused", "subject", "another order with other content has this order id"),
    )


def _follow(table: dict[str, Step], state: OrderState, fact: Verdict | Update) -> Decision:
    step = table[fact.kind]
    now: StrEnum = state.payment if table is PAYMENT else state.status
    if now in step.of:
        return Decision(Outcome.APPLIED, _after(state, fact, step))
    if now in step.waits:
        return Decision(
            Outcome.WAITING, state, Reason("too_early", "type", f"{fact.kind} waits while the order is {now}")
        )
    if now in step.stale:
        return Decision(
            Outcome.REFUSED, state, Reason("stale", "type", f"{fact.kind} comes too late: the order is {now}")
        )
    return Decision(
        Outcome.PARKED,
        state,
        Reason("forbidden_transition", "type", f"{fact.kind} is forbidden: the order is {now}"),
    )


def _after(state: OrderState, fact: Verdict | Update, step: Step) -> OrderState:
    version = state.version + 1
    if isinstance(fact, OrderRefunded):
        refunded = state.refunded + fact.amount
        payment = Payment.REFUNDED if refunded == state.captured else Payment.PAID
        return replace(state, payment=payment, refunded=refunded, version=version)
    if isinstance(fact, OrderPaid):
        return replace(state, payment=Payment.PAID, captured=fact.amount, version=version)
    if isinstance(step.to, Payment):
        return replace(state, payment=step.to, version=version)
    if isinstance(fact, OrderReleased):
        return replace(state, status=state.resumes or Status.ACCEPTED, resumes=None, version=version)
    if isinstance(step.to, Status):
        held = fact.kind == OrderHeld.kind and state.status is Status.PACKED
        return replace(state, status=step.to, resumes=Status.PACKED if held else None, version=version)
    raise AssertionError(fact.kind)


def _amount_trouble(state: OrderState, fact: Update) -> Decision | None:
    """A payment event whose money does not fit the order can never be applied."""
    if not isinstance(fact, PaymentFact):
        return None
    if fact.currency != state.currency:
        reason = Reason("currency_mismatch", "currency", f"the order is in {state.currency}")
    elif isinstance(fact, OrderRefunded):
        left = state.captured - state.refunded
        if state.payment in {Payment.UNPAID, Payment.AUTHORISED, Payment.FAILED} or fact.amount <= left:
            return None
        reason = Reason("refund_exceeds_payment", "amount", f"{show(left, state.currency)} is left to refund")
    elif fact.amount != state.total:
        reason = Reason(
            "amount_mismatch", "amount", f"the order's total is {show(state.total, state.currency)}"
        )
    else:
        return None
    return Decision(Outcome.PARKED, state, reason)
