"""When an order is stuck, by the shop's limits alone."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from orderflow.domain import deadlines
from orderflow.domain.attention import STUCK_CODES
from orderflow.domain.deadlines import Alert, OrderAge, PaymentLimits, StuckLimits, stuck_alerts
from orderflow.domain.rules import Rules
from orderflow.query import labels
from orderflow.query.store.read_model import Gap

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def hours(count: float) -> datetime:
    return NOW - timedelta(hours=count)


def codes(
    status: str, since: float, payment: str = "paid", payment_since: float = 0, **limits: object
) -> list[str]:
    age = OrderAge(status, hours(since), payment, hours(payment_since))
    return [alert.code for alert in stuck_alerts(StuckLimits.model_validate(limits), age, NOW)]


@pytest.mark.parametrize("status", deadlines.STATUSES)
def test_an_order_is_stuck_once_it_is_over_its_status_limit_and_not_before(status: str) -> None:
    assert codes(status, 10, **{status: 10}) == []
    assert codes(status, 10.01, **{status: 10}) == [f"stuck_{status}"]
    assert codes(status, 9000, **{status: 0}) == []


@pytest.mark.parametrize("status", ["rejected", "cancelled", "delivered", "returned"])
def test_an_order_in_a_final_status_is_never_stuck(status: str) -> None:
    assert codes(status, 9000, "unpaid", 9000) == []


def test_a_payment_is_stuck_only_before_the_goods_are_shipped() -> None:
    assert codes("accepted", 1, "unpaid", 73) == ["stuck_unpaid"]
    assert codes("packed", 1, "authorised", 169) == ["stuck_authorised"]
    assert codes("packed", 1, "unpaid", 71) == []
    assert codes("held", 1, "unpaid", 9000) == []
    assert codes("shipped", 1, "unpaid", 9000) == []


def test_an_alert_has_its_beginning_and_its_limit() -> None:
    (alert,) = stuck_alerts(StuckLimits(), OrderAge("held", hours(30), "paid", hours(30)), NOW)
    assert alert == Alert("stuck_held", hours(30), 24)
    assert labels.alert_text(alert, NOW) == "held for 30 h; the shop's limit is 24 h"


def test_every_code_has_a_text() -> None:
    assert tuple(labels.STUCK) == STUCK_CODES
    for code in (*STUCK_CODES, deadlines.SEQUENCE_GAP, deadlines.WAITING_EXPIRES):
        assert "3 h" in labels.alert_text(Alert(code, hours(3), 2), NOW)
        assert code in dict(labels.NEED_OPTIONS)


def test_missing_numbers_have_a_text_for_one_and_for_many() -> None:
    assert labels.gap_text(Gap("/shop", 3, 3, NOW)) == "number 3 of /shop has not come"
    assert labels.gap_text(Gap("/shop", 3, 9, NOW)) == "numbers 3 to 9 of /shop have not come"


def test_a_limit_for_an_unknown_status_and_a_negative_limit_are_refused() -> None:
    for limits in ({"heald": 3}, {"held": -1}, {"payment": {"paid": 1}}):
        with pytest.raises(ValidationError):
            Rules.model_validate({"stuck": limits})
    assert set(PaymentLimits.model_fields) == {"unpaid", "authorised"}
