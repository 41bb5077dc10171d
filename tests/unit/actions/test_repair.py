"""How each parked event of a revision is sent again, and what is left to a person."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.events import event, paid, placed
from support.parked_events import REQUEST, parked

from orderflow.actions import repair
from orderflow.actions.repair import Part, RepairableEvent, RevisionRepairs
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.places import Place
from orderflow.validate.handler import validate

REVISION = "validate-00002"
PLACE = Place("inbox-id", 1, 7)


class World:
    """The database, the inbox and the parked topic."""

    def __init__(self, *rows: RepairableEvent, inbox: dict[Place, CloudEvent] | None = None) -> None:
        self.rows = rows
        self.inbox = inbox or {}
        self.published: list[CloudEvent] = []

    def repairable(self, revision: str, stage: str, after: str | None, limit: int) -> list[RepairableEvent]:
        return [row for row in self.rows if after is None or row.parked.order_id > after][:limit]

    def events(self, places: Iterable[Place]) -> dict[Place, CloudEvent]:
        return {place: self.inbox[place] for place in places if place in self.inbox}

    def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        assert topic == topics.PARKED
        self.published += events

    def repair(self, **options: Any) -> repair.Repair:
        return RevisionRepairs(self, self, self.publish).repair(REVISION, REQUEST, **options)

    @property
    def data(self) -> list[dict[str, Any]]:
        return [json.loads(each.data) for each in self.published]


def judged(sent: CloudEvent, code: str = "extra_forbidden", **extra: Any) -> RepairableEvent:
    """An event that the revision made of an inbox event, with a member that track does not know."""
    made = validate(replace(sent, data=sent.data), Rules(), REVISION).with_extensions(inboxplace=str(PLACE))
    data = json.loads(made.data)
    data.get("order", data).update(extra)
    return RepairableEvent(parked(replace(made, data=json.dumps(data).encode()), "track", code), Part.JUDGED)


def test_what_the_revision_made_is_set_back_to_what_came_to_the_inbox() -> None:
    sent = placed("o-1")
    world = World(judged(sent, loyalty="gold"), inbox={PLACE: sent})
    done = world.repair()
    assert [step.way for step in done.taken] == ["validated_anew"]
    (data,) = world.data
    assert data["event"]["data"] == json.loads(sent.data)
    assert data["fields"] == ["data.loyalty"]
    assert (data["by"], data["late"]) == (REQUEST.by, True)


@pytest.mark.parametrize("inbox", [{}, {PLACE: placed("o-2")}], ids=["gone", "another event"])
def test_where_the_inbox_record_is_gone_a_person_is_told_what_to_do(inbox: dict[Place, CloudEvent]) -> None:
    world = World(judged(placed("o-1"), loyalty="gold"), inbox=inbox)
    done = world.repair()
    assert [left.reason.code for left in done.left] == ["inbox_record_gone"]
    assert world.published == []


def test_a_payment_that_was_sent_with_a_wrong_amount_is_not_sent_again() -> None:
    sent = paid("o-1", amount=1)
    done = World(judged(sent, "amount_mismatch"), inbox={PLACE: sent}).repair()
    assert [left.reason.code for left in done.left] == ["unchanged"]


@pytest.mark.parametrize(
    ("stage", "part", "way"),
    [("notify", Part.RENDERED, "announced_anew"), ("validate", Part.PARKED, "replayed")],
)
def test_a_status_event_is_announced_anew_and_what_was_only_parked_is_replayed(
    stage: str, part: Part, way: str
) -> None:
    world = World(RepairableEvent(parked(placed("o-1"), stage), part))
    assert [step.way for step in world.repair().taken] == [way]
    assert len(world.published) == 1


@pytest.mark.parametrize(
    ("part", "code", "left"),
    [(Part.TOOK, "bad", "made_by_intake"), (Part.PARKED, "overtaken", "overtaken")],
)
def test_what_only_a_person_can_decide_is_left(part: Part, code: str, left: str) -> None:
    world = World(RepairableEvent(parked(placed("o-1"), "validate", code), part))
    assert [each.reason.code for each in world.repair().left] == [left]
    assert world.published == []


@pytest.mark.parametrize(("kind", "late"), [("packed", True), ("shipped", True), ("held", False)])
def test_only_holds_releases_and_cancellations_keep_their_place_in_the_sequence(
    kind: str, late: bool
) -> None:
    data = {"by": "anna"} if kind == "held" else {}
    world = World(RepairableEvent(parked(event(kind, "o-1", data)), Part.PARKED))
    world.repair()
    assert world.data[0].get("late", False) is late


def test_a_dry_run_says_what_would_be_done_and_publishes_nothing() -> None:
    world = World(RepairableEvent(parked(placed("o-1")), Part.PARKED))
    plan = world.repair(dry_run=True)
    assert world.published == []
    assert plan == world.repair()


def test_the_events_of_one_order_are_never_divided_between_two_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repair, "MAX_AT_ONCE", 3)
    orders = ("o-1", "o-2", "o-2", "o-3", "o-3")
    rows = [RepairableEvent(parked(paid(order_id)), Part.PARKED) for order_id in orders]
    world = World(*rows)
    first = world.repair()
    assert first.after == "o-2"
    second = world.repair(after=first.after)
    assert second.after is None
    taken = [step.order_id for step in first.taken + second.taken]
    assert sorted(taken) == list(orders)
