"""Operators' actions as events."""

from dataclasses import replace
from typing import Any

import pytest
from support.events import paid
from support.parked_events import REQUEST, parked

from orderflow.actions import events, resend
from orderflow.errors import PoisonError
from orderflow.messaging import inbox_event


@pytest.mark.parametrize("kind", ["held", "released", "cancelled"])
def test_an_orders_action_is_an_ordinary_event_that_says_who_and_why(kind: str) -> None:
    sent = events.order_event(kind, "o-1", REQUEST)
    fact: Any = inbox_event.read(sent)
    assert (fact.kind, fact.by, fact.reason) == (kind, "anna", "because")
    assert (sent.source, sent.subject, sent.key) == (events.SOURCE, "o-1", b"o-1")


def test_every_action_is_read_as_it_was_written_and_has_an_id_of_its_own() -> None:
    parked_event = parked(paid("o-1"))
    sent = events.order_event("held", "o-1", REQUEST)
    actions = [
        events.replay(parked_event, REQUEST),
        events.discard(parked_event, replace(REQUEST, id="r-2")),
        events.edit(
            parked_event, replace(REQUEST, id="r-3"), resend.document(parked_event), ("data.amount",)
        ),
        events.extend("o-1", REQUEST, 1.5),
        events.record_of(sent, "held", REQUEST),
    ]
    for each in actions:
        action = events.read(each)
        assert (action.by, action.reason) == ("anna", "because")
        assert each.subject == each.extensions["partitionkey"] == "o-1"
    assert len({each.id for each in [sent, *actions]}) == 6
    assert events.replay(parked_event, REQUEST).id == actions[0].id


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"by": "Anna B"}, "by"), ({"by": "x" * 65}, "by"), ({"reason": "a\x00"}, "reason")],
)
def test_an_action_with_an_invalid_operator_or_reason_is_refused_at_once(
    changes: dict[str, str], field: str
) -> None:
    for make in (
        lambda request: events.order_event("held", "o-1", request),
        lambda request: events.discard(parked(paid("o-1")), request),
    ):
        with pytest.raises(PoisonError) as caught:
            make(replace(REQUEST, **changes))  # type: ignore[arg-type]
        assert caught.value.reasons[0].field == field
