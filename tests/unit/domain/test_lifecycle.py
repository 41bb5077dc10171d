"""The lifecycle's two tables, written a second time by hand: the code and this copy must agree."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import order

from orderflow.domain import lifecycle
from orderflow.domain.events import UPDATES, VERDICTS, OrderAccepted, Update, Verdict
from orderflow.domain.lifecycle import OrderState, Outcome, Payment, Status
from orderflow.domain.orders import Order

MONEY = {"amount": 2900, "currency": "EUR"}
# Per event: its outcome in each status, in the sequence of Status. A word is the status that the event leads to;
# "w" is waiting, "s" is stale, "x" is forbidden.
STATUSES = (
    "placed",
    "held",
    "accepted",
    "rejected",
    "cancelled",
    "packed",
    "shipped",
    "delivered",
    "returned",
)
STATUS_MATRIX = {
    "held": ("held", "s", "held", "x", "x", "held", "x", "x", "x"),
    "released": ("s", "accepted", "s", "x", "x", "s", "s", "s", "x"),
    "cancelled": ("cancelled", "cancelled", "cancelled", "s", "s", "cancelled", "x", "x", "x"),
    "packed": ("x", "w", "packed", "x", "x", "s", "s", "s", "s"),
    "shipped": ("x", "w", "shipped", "x", "x", "shipped", "s", "s", "s"),
    "delivered": ("x", "w", "w", "x", "x", "w", "delivered", "s", "s"),
    "returned": ("x", "w", "w", "x", "x", "w", "returned", "returned", "s"),
}
PAYMENTS = ("unpaid", "authorised", "paid", "failed", "refunded")
PAYMENT_MATRIX = {
    "authorised": ("authorised", "s", "s", "authorised", "s"),
    "paid": ("paid", "paid", "s", "paid", "s"),
    "declined": ("failed", "failed", "s", "s", "s"),
    "refunded": ("w", "w", "refunded", "w", "x"),
}
OUTCOMES = {"w": Outcome.WAITING, "s": Outcome.REFUSED, "x": Outcome.PARKED}


def fact(kind: str, **data: Any) -> Update:
    money = MONEY if kind in {"authorised", "paid", "refunded"} else {}
    return UPDATES[kind](**(money | data))


def verdict(kind: str = "accepted", **changes: Any) -> Verdict:
    return VERDICTS[kind](order=Order(**order(**changes)))


def state(status: str = "accepted", payment: str = "unpaid", **changes: Any) -> OrderState:
    captured = 2900 if payment in {"paid", "refunded"} else 0
    refunded = 2900 if payment == "refunded" else 0
    fields: dict[str, Any] = {
        "captured": captured,
        "refunded": refunded,
        "version": 1,
        "digest": "d",
    } | changes
    return OrderState(Status(status), Payment(payment), "EUR", 2900, **fields)


@pytest.mark.parametrize(
    ("kind", "status", "cell"),
    [
        (kind, status, cell)
        for kind, row in STATUS_MATRIX.items()
        for status, cell in zip(STATUSES, row, strict=True)
    ],
)
def test_each_event_in_each_status_does_what_the_table_says(kind: str, status: str, cell: str) -> None:
    decision = lifecycle.decide(state(status), fact(kind))
    if cell in OUTCOMES:
        assert decision.outcome is OUTCOMES[cell]
        assert decision.state == state(status)
        assert decision.reason is not None
    else:
        assert decision.outcome is Outcome.APPLIED
        assert decision.state is not None
        assert (decision.state.status, decision.state.version) == (cell, 2)


@pytest.mark.parametrize(
    ("kind", "payment", "cell"),
    [
        (kind, paid, cell)
        for kind, row in PAYMENT_MATRIX.items()
        for paid, cell in zip(PAYMENTS, row, strict=True)
    ],
)
def test_each_payment_event_in_each_payment_state_does_what_the_table_says(
    kind: str, payment: str, cell: str
) -> None:
    decision = lifecycle.decide(state(payment=payment), fact(kind))
    if cell in OUTCOMES:
        assert decision.outcome is OUTCOMES[cell]
    else:
        assert decision.outcome is Outcome.APPLIED
        assert decision.state is not None
        assert decision.state.payment == cell


def test_the_matrices_cover_every_event_and_every_state() -> None:
    assert set(STATUS_MATRIX) | set(PAYMENT_MATRIX) == set(UPDATES)
    assert set(STATUSES) == set(Status)
    assert set(PAYMENTS) == set(Payment)


def test_an_update_of_an_unknown_order_waits_whatever_it_is() -> None:
    for kind in UPDATES:
        assert lifecycle.decide(None, fact(kind)).outcome is Outcome.WAITING


@pytest.mark.parametrize("kind", ["accepted", "rejected", "held"])
def test_a_verdict_begins_the_order(kind: str) -> None:
    decision = lifecycle.decide(None, verdict(kind), "digest")
    assert decision.outcome is Outcome.APPLIED
    assert decision.state == OrderState(Status(kind), Payment.UNPAID, "EUR", 2900, version=1, digest="digest")


def test_the_same_order_placed_again_is_refused_and_another_under_its_id_is_parked() -> None:
    assert lifecycle.decide(state(), verdict(), "d").outcome is Outcome.REFUSED
    other = lifecycle.decide(state(), verdict(), "other")
    assert other.outcome is Outcome.PARKED
    assert other.reason is not None
    assert other.reason.code == "order_id_reused"


def test_a_release_goes_back_to_where_the_hold_came_from() -> None:
    for before, after in (("packed", "packed"), ("accepted", "accepted"), ("placed", "accepted")):
        held = lifecycle.decide(state(before), fact("held")).state
        assert held is not None
        released = lifecycle.decide(held, fact("released")).state
        assert released is not None
        assert released.status == after
        assert released.resumes is None


def test_refunds_come_in_parts_until_all_is_back_and_never_more() -> None:
    first = lifecycle.decide(state(payment="paid"), fact("refunded", amount=1000)).state
    assert first is not None
    assert (first.payment, first.refunded) == ("paid", 1000)
    too_much = lifecycle.decide(first, fact("refunded", amount=1901))
    assert too_much.outcome is Outcome.PARKED
    assert too_much.reason is not None
    assert (too_much.reason.code, too_much.reason.field) == ("refund_exceeds_payment", "amount")
    last = lifecycle.decide(first, fact("refunded", amount=1900)).state
    assert last is not None
    assert (last.payment, last.refunded) == ("refunded", 2900)


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        ("paid", {"amount": 2899}, "amount_mismatch"),
        ("authorised", {"amount": 2901}, "amount_mismatch"),
        ("paid", {"currency": "USD"}, "currency_mismatch"),
        ("refunded", {"currency": "USD"}, "currency_mismatch"),
    ],
)
def test_money_that_does_not_fit_the_order_is_parked(kind: str, data: dict[str, Any], code: str) -> None:
    decision = lifecycle.decide(state(payment="unpaid"), fact(kind, **data))
    assert decision.outcome is Outcome.PARKED
    assert decision.reason is not None
    assert decision.reason.code == code


@given(
    st.sampled_from(STATUSES),
    st.sampled_from(PAYMENTS),
    st.lists(st.tuples(st.sampled_from(sorted(UPDATES)), st.integers(1, 4000)), max_size=30),
)
def test_no_sequence_of_events_breaks_the_money(
    status: str, payment: str, events: list[tuple[str, int]]
) -> None:
    before = state(status, payment)
    for kind, amount in events:
        data = {"amount": amount} if kind == "refunded" else {}
        decision = lifecycle.decide(before, fact(kind, **data))
        after = decision.state or before
        assert 0 <= after.refunded <= after.captured <= after.total
        assert (after.payment is Payment.REFUNDED) == (0 < after.captured == after.refunded)
        assert after.version == before.version + (decision.outcome is Outcome.APPLIED)
        before = after


def end_of(facts: tuple[Update | Verdict, ...]) -> tuple[str, str]:
    """Status and payment at the end, if the facts arrive in that sequence and early facts wait."""
    current: OrderState | None = None
    pending: list[Update | Verdict] = []
    for arriving in facts:
        pending.append(arriving)
        applied = True
        while applied:
            applied = False
            for each in list(pending):
                decision = lifecycle.decide(current, each, "d")
                if decision.outcome is Outcome.WAITING:
                    continue
                pending.remove(each)
                if decision.outcome is Outcome.APPLIED:
                    current, applied = decision.state, True
                    break
    assert current is not None
    assert pending == []
    return current.status, current.payment


def test_whatever_the_order_of_arrival_a_normal_order_ends_delivered_and_paid() -> None:
    facts = (verdict(), fact("paid"), fact("shipped"), fact("delivered"))
    assert {end_of(arrivals) for arrivals in permutations(facts)} == {("delivered", "paid")}


def test_whatever_the_order_of_arrival_a_returned_order_is_refunded() -> None:
    facts = (
        verdict(),
        fact("paid"),
        fact("shipped"),
        fact("refunded", amount=900),
        fact("refunded", amount=2000),
    )
    ends = {end_of((*arrivals, fact("returned"))) for arrivals in permutations(facts)}
    assert ends == {("returned", "refunded")}


@pytest.mark.parametrize("status", ["shipped", "delivered", "returned"])
def test_once_goods_moved_a_cancellation_is_parked_and_the_order_stays(status: str) -> None:
    decision = lifecycle.decide(state(status), fact("cancelled"))
    assert decision.outcome is Outcome.PARKED
    assert decision.state == state(status)
    assert decision.reason is not None
    assert decision.reason.code == "forbidden_transition"


def test_an_order_held_after_packing_can_still_be_cancelled() -> None:
    held = lifecycle.decide(state("packed"), fact("held")).state
    decision = lifecycle.decide(held, fact("cancelled"))
    assert decision.state is not None
    assert (decision.state.status, decision.state.resumes) == ("cancelled", None)


@given(st.data())
def test_whatever_the_order_of_arrival_a_life_in_which_nothing_is_undone_ends_the_same(
    data: st.DataObject,
) -> None:
    """Events that only lead forward may come in any sequence; an event that another one overtook is stale. Holding,
    releasing, cancelling and declining do not commute: their effect depends on the current state (see the matrices)."""
    goods = ["packed", "shipped", "delivered", "returned"]
    money = ["authorised", "paid"]
    facts: list[Update | Verdict] = [verdict()]
    facts += [fact(kind) for kind in goods[: data.draw(st.integers(0, len(goods)))]]
    facts += [fact(kind) for kind in money[: data.draw(st.integers(0, len(money)))]]
    if any(each.kind == "paid" for each in facts):
        first = data.draw(st.integers(1, 2899))
        parts = [first, 2900 - first][: data.draw(st.integers(0, 2))]
        facts += [fact("refunded", amount=part) for part in parts]
    end_in_sequence = end_of(tuple(facts))
    assert end_of(tuple(data.draw(st.permutations(facts)))) == end_in_sequence


def test_only_verdicts_carry_an_order() -> None:
    assert isinstance(verdict(), OrderAccepted)
    assert not any(issubclass(model, Verdict) for model in UPDATES.values())
