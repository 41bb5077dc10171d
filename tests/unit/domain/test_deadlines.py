"""When an order is stuck, by the shop's limits alone."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from orderflow.domain import deadlines
from orderflow.domain.deadlines import Alert, Standing, Stuck, StuckPayment
from orderflow.domain.rules import Rules
from orderflow.query import labels
from orderflow.query.store.filters import STUCK
from orderflow.query.store.read_model import Gap

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def hours(count: float) -> datetime:
    return NOW - timedelta(hours=count)


def codes(status: str, since: float, payment: str = "paid", owing: float = 0, **given: object) -> list[str]:
    where = Standing(status, hours(since), payment, hours(owing))
    return [alert.code for alert in deadlines.stuck(Stuck.model_validate(given), where, NOW)]


@pytest.mark.parametrize("status", deadlines.STATUSES)
def test_an_order_is_stuck_once_it_is_over_its_status_limit_and_not_before(status: str) -> None:
    assert codes(status, 10, **{status: 10}) == []
    assert codes(status, 10.01, **{status: 10}) == [f"stuck_{status}"]
    assert codes(status, 9000, **{status: 0}) == []


@pytest.mark.parametrize("status", ["rejected", "cancelled", "delivered", "returned"])
def test_an_order_at_its_end_is_never_stuck(status: str) -> None:
    assert codes(status, 9000, "unpaid", 9000) == []


def test_a_payment_is_stuck_while_the_goods_are_still_here() -> None:
    assert codes("accepted", 1, "unpaid", 73) == ["stuck_unpaid"]
    assert codes("packed", 1, "authorised", 169) == ["stuck_authorised"]
    assert codes("packed", 1, "unpaid", 71) == []
    assert codes("held", 1, "unpaid", 9000) == []
    assert codes("shipped", 1, "unpaid", 9000) == []


def test_a_limit_says_since_when_and_how_many_hours_it_is() -> None:
    (alert,) = deadlines.stuck(Stuck(), Standing("held", hours(30), "paid", hours(30)), NOW)
    assert alert == Alert("stuck_held", hours(30), 24)
    assert labels.alert(alert, NOW) == "held for 30 h; the shop's limit is 24 h"


def test_every_code_is_told_in_words() -> None:
    assert tuple(labels.STUCK) == STUCK
    for code in (*STUCK, deadlines.SEQUENCE_GAP, deadlines.WAITING_EXPIRES):
        assert "3 h" in labels.alert(Alert(code, hours(3), 2), NOW)
        assert code in dict(labels.NEEDS_OF_ORDERS)


def test_missing_numbers_are_told_one_or_many() -> None:
    assert labels.gap(Gap("/shop", 3, 3, NOW)) == "number 3 of /shop has not come"
    assert labels.gap(Gap("/shop", 3, 9, NOW)) == "numbers 3 to 9 of /shop have not come"


def test_a_limit_of_a_status_that_does_not_exist_or_below_nothing_is_refused() -> None:
    for given in ({"heald": 3}, {"held": -1}, {"payment": {"paid": 1}}):
        with pytest.raises(ValidationError):
            Rules.model_validate({"stuck": given})
    assert set(StuckPayment.model_fields) == {"unpaid", "authorised"}
