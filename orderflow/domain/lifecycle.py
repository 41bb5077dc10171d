"""An order's lifecycle: two tables of transitions, one for the status and one for the payment, and decide()."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from orderflow.domain.digests import Digests
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
    """The result of one event."""

    APPLIED = "applied"
    WAITING = "waiting"
    REFUSED = "refused"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class OrderState:
    """The state of an order. Amounts are in minor units. resumes is the status that a release returns to (None:
    accepted). digest and content_digest are the digests of the placed order (orderflow/domain/digests.py)."""

    status: Status
    payment: Payment
    currency: str
    total: int
    captured: int = 0
    refunded: int = 0
    resumes: Status | None = None
    version: int = 0
    digest: str = ""
    content_digest: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    state: OrderState | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """What one kind of event does, by the order's state.

    In the states of sources the event applies and leads to target (None: the target depends on the order). In the
    states of waits the event waits for an earlier event. In the states of stale the event comes too late and is
    refused. In every other state the event is forbidden.
    """

    sources: frozenset[StrEnum]
    target: StrEnum | None
    waits: frozenset[StrEnum] = field(default_factory=frozenset)
    stale: frozenset[StrEnum] = field(default_factory=frozenset)


def _transition(
    sources: tuple[StrEnum, ...],
    target: StrEnum | None,
    *,
    waits: tuple[StrEnum, ...] = (),
    stale: tuple[StrEnum, ...] = (),
) -> Transition:
    return Transition(frozenset(sources), target, frozenset(waits), frozenset(stale))


_S = Status
_P = Payment

STATUS: Final[dict[str, Transition]] = {
    "accepted": _transition((_S.PLACED,), _S.ACCEPTED),
    "rejected": _transition((_S.PLACED,), _S.REJECTED),
    "held": _transition((_S.PLACED, _S.ACCEPTED, _S.PACKED), _S.HELD, stale=(_S.HELD,)),
    "released": _transition(
        (_S.HELD,), None, stale=(_S.PLACED, _S.ACCEPTED, _S.PACKED, _S.SHIPPED, _S.DELIVERED)
    ),
    "cancelled": _transition(
        (_S.PLACED, _S.HELD, _S.ACCEPTED, _S.PACKED), _S.CANCELLED, stale=(_S.CANCELLED, _S.REJECTED)
    ),
    "packed": _transition(
        (_S.ACCEPTED,), _S.PACKED, waits=(_S.HELD,), stale=(_S.PACKED, _S.SHIPPED, _S.DELIVERED, _S.RETURNED)
    ),
    "shipped": _transition(
        (_S.ACCEPTED, _S.PACKED), _S.SHIPPED, waits=(_S.HELD,), stale=(_S.SHIPPED, _S.DELIVERED, _S.RETURNED)
    ),
    "delivered": _transition(
        (_S.SHIPPED,),
        _S.DELIVERED,
        waits=(_S.HELD, _S.ACCEPTED, _S.PACKED),
        stale=(_S.DELIVERED, _S.RETURNED),
    ),
    "returned": _transition(
        (_S.SHIPPED, _S.DELIVERED), _S.RETURNED, waits=(_S.HELD, _S.ACCEPTED, _S.PACKED), stale=(_S.RETURNED,)
    ),
}

PAYMENT: Final[dict[str, Transition]] = {
    "authorised": _transition(
        (_P.UNPAID, _P.FAILED), _P.AUTHORISED, stale=(_P.AUTHORISED, _P.PAID, _P.REFUNDED)
    ),
    "paid": _transition((_P.UNPAID, _P.AUTHORISED, _P.FAILED), _P.PAID, stale=(_P.PAID, _P.REFUNDED)),
    "declined": _transition((_P.UNPAID, _P.AUTHORISED), _P.FAILED, stale=(_P.FAILED, _P.PAID, _P.REFUNDED)),
    "refunded": _transition((_P.PAID,), None, waits=(_P.UNPAID, _P.AUTHORISED, _P.FAILED)),
}


def initial_state(verdict: Verdict, digest: str, content_digest: str = "") -> OrderState:
    """The state of the order before the verdict applies. The digests are those of the placed order's content."""
    return OrderState(
        Status.PLACED,
        Payment.UNPAID,
        verdict.order.currency,
        verdict.order.total,
        digest=digest,
        content_digest=content_digest,
    )


def decide(
    state: OrderState | None, fact: Verdict | Update, digest: str = "", content_digest: str = ""
) -> Decision:
    """Decides what the fact does to an order in that state (None: no order with that id is known yet).

    The digests are those of the content that the fact was made from (orderflow/domain/digests.py). They tell an order
    that is placed again under another event id from another order with the same order id.
    """
    if isinstance(fact, Verdict):
        if state is not None:
            return _decide_second_placement(state, Digests(digest, content_digest))
        return _decide_by_table(STATUS, initial_state(fact, digest, content_digest), fact)
    if state is None:
        return Decision(
            Outcome.WAITING, reason=Reason("order_unknown", "subject", "the order is not known yet")
        )
    if fact.kind in PAYMENT:
        return _park_wrong_amount(state, fact) or _decide_by_table(PAYMENT, state, fact)
    return _decide_by_table(STATUS, state, fact)


def _decide_second_placement(state: OrderState, digests: Digests) -> Decision:
    if digests.same_content(Digests(state.digest, state.content_digest)):
        return Decision(
            Outcome.REFUSED, state, Reason("already_placed", "subject", "the same order was placed before")
        )
    return Decision(
        Outcome.PARKED,
        state,
        Reason("order_id_reused", "subject", "another order with other content has this order id"),
    )


def _decide_by_table(table: dict[str, Transition], state: OrderState, fact: Verdict | Update) -> Decision:
    transition = table[fact.kind]
    current: StrEnum = state.payment if table is PAYMENT else state.status
    if current in transition.sources:
        return Decision(Outcome.APPLIED, _next_state(state, fact, transition))
    if current in transition.waits:
        return Decision(
            Outcome.WAITING,
            state,
            Reason("too_early", "type", f"{fact.kind} waits while the order is {current}"),
        )
    if current in transition.stale:
        return Decision(
            Outcome.REFUSED,
            state,
            Reason("stale", "type", f"{fact.kind} comes too late: the order is {current}"),
        )
    return Decision(
        Outcome.PARKED,
        state,
        Reason("forbidden_transition", "type", f"{fact.kind} is forbidden: the order is {current}"),
    )


def _next_state(state: OrderState, fact: Verdict | Update, transition: Transition) -> OrderState:
    version = state.version + 1
    if isinstance(fact, OrderRefunded):
        refunded = state.refunded + fact.amount
        payment = Payment.REFUNDED if refunded == state.captured else Payment.PAID
        return replace(state, payment=payment, refunded=refunded, version=version)
    if isinstance(fact, OrderPaid):
        return replace(state, payment=Payment.PAID, captured=fact.amount, version=version)
    if isinstance(transition.target, Payment):
        return replace(state, payment=transition.target, version=version)
    if isinstance(fact, OrderReleased):
        return replace(state, status=state.resumes or Status.ACCEPTED, resumes=None, version=version)
    if isinstance(transition.target, Status):
        held_after_packing = fact.kind == OrderHeld.kind and state.status is Status.PACKED
        resumes = Status.PACKED if held_after_packing else None
        return replace(state, status=transition.target, resumes=resumes, version=version)
    raise AssertionError(fact.kind)


def _park_wrong_amount(state: OrderState, fact: Update) -> Decision | None:
    """Parks a payment event whose currency or amount can never fit the order; None where they fit."""
    if not isinstance(fact, PaymentFact):
        return None
    if fact.currency != state.currency:
        reason = Reason("currency_mismatch", "currency", f"the order is in {state.currency}")
    elif isinstance(fact, OrderRefunded):
        refundable = state.captured - state.refunded
        if state.payment in {Payment.UNPAID, Payment.AUTHORISED, Payment.FAILED} or fact.amount <= refundable:
            return None
        reason = Reason(
            "refund_exceeds_payment", "amount", f"{show(refundable, state.currency)} is left to refund"
        )
    elif fact.amount != state.total:
        reason = Reason(
            "amount_mismatch", "amount", f"the order's total is {show(state.total, state.currency)}"
        )
    else:
        return None
    return Decision(Outcome.PARKED, state, reason)
