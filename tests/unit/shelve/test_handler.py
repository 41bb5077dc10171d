"""What shelve decides on an operator's action, and in which sequence it records and publishes."""

from collections.abc import Sequence

import pytest
from support.events import paid
from support.parked_events import REQUEST, parked
from support.places import places

from orderflow.actions import events
from orderflow.actions.events import Action, ParkedEventAction
from orderflow.actions.parked_event import ParkedEvent
from orderflow.errors import PoisonError, Reason, TransientError
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.parked_event import Parked
from orderflow.shelve.handler import ActionHandler, decide


@pytest.mark.parametrize(
    ("state", "code"), [("replayed", "already_replayed"), ("discarded", "already_discarded")]
)
def test_what_is_not_open_is_not_sent_again(state: str, code: str) -> None:
    parked_event = parked(paid("o-1"), state=state)
    command = decide(events.read(events.replay(parked_event, REQUEST)), "a-1", parked_event)
    assert command.event is None
    assert command.refusal is not None
    assert command.refusal.code == code


def test_an_action_on_a_parked_event_that_is_not_known_is_refused() -> None:
    command = decide(events.read(events.replay(parked(paid("o-1")), REQUEST)), "a-1", None)
    assert command.refusal is not None
    assert command.refusal.code == "letter_unknown"


class Table:
    """The table of actions. calls has what was done, in sequence, with what the publisher did."""

    def __init__(self, parked_event: ParkedEvent, outcome: str = "") -> None:
        self.parked_event = parked_event
        self.outcome = outcome
        self.calls: list[str] = []
        self.refuses: Exception | None = None
        self.announced: CloudEvent | None = None

    async def find(self, action_id: str, parked_id: str) -> tuple[str, ParkedEvent | None]:
        return self.outcome, self.parked_event

    async def status_event(self, parked: ParkedEvent) -> CloudEvent | None:
        return self.announced

    async def begin(self, event: CloudEvent, action: ParkedEventAction, sent: CloudEvent) -> None:
        self.calls.append(f"sending {sent.id}")

    async def finish(self, action_id: str) -> None:
        self.calls.append("done")

    async def fail(self, action_id: str, parked_id: str, refusal: Reason) -> None:
        self.calls.append(f"refused: {refusal.code}")

    async def record(self, event: CloudEvent, action: Action, refusal: Reason | None) -> None:
        self.calls.append(f"recorded {action.kind}")

    async def upsert(self, event: CloudEvent, parked: Parked) -> None:
        raise AssertionError

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.calls.append(f"published {events[0].id} as {events[0].extensions['replay']}")


def handler(table: Table) -> ActionHandler:
    return ActionHandler(table, table, table, places())


async def test_an_action_is_in_the_table_before_its_event_is_published_and_done_after() -> None:
    """Track believes a replay only if the table has it."""
    sent = paid("o-1")
    table = Table(parked(sent))
    action = events.replay(table.parked_event, REQUEST)
    assert await handler(table).handle(action) == "done"
    assert table.calls == [f"sending {sent.id}", f"published {sent.id} as {action.id}", "done"]


async def test_without_kafkas_confirmation_an_action_stays_as_one_that_is_being_sent() -> None:
    table = Table(parked(paid("o-1")))
    table.refuses = TransientError("Kafka is away")
    with pytest.raises(TransientError):
        await handler(table).handle(events.replay(table.parked_event, REQUEST))
    assert [each.split()[0] for each in table.calls] == ["sending"]


async def test_an_action_that_is_being_sent_is_sent_again_under_the_same_id_when_it_is_delivered_again() -> (
    None
):
    sent = paid("o-1")
    table = Table(parked(sent, state="replayed"), outcome="sending")
    action = events.replay(table.parked_event, REQUEST)
    assert await handler(table).handle(action) == "done"
    assert table.calls[1:] == [f"published {sent.id} as {action.id}", "done"]


async def test_an_action_that_is_being_sent_is_refused_where_its_parked_event_was_discarded() -> None:
    table = Table(parked(paid("o-1"), state="discarded"), outcome="sending")
    assert await handler(table).handle(events.replay(table.parked_event, REQUEST)) == "refused"
    assert table.calls == ["refused: already_discarded"]


async def test_an_event_that_kafka_will_never_take_leaves_a_refused_action() -> None:
    table = Table(parked(paid("o-1")))
    table.refuses = PoisonError(Reason("too_large", "", "Kafka takes no record of this size"))
    assert await handler(table).handle(events.replay(table.parked_event, REQUEST)) == "refused"
    assert table.calls[1:] == ["refused: too_large"]


@pytest.mark.parametrize("outcome", ["done", "refused", "asked"])
async def test_an_action_that_has_its_outcome_is_not_done_again(outcome: str) -> None:
    table = Table(parked(paid("o-1")), outcome=outcome)
    assert await handler(table).handle(events.replay(table.parked_event, REQUEST)) == "duplicate"
    assert table.calls == []


async def test_a_change_is_announced_anew_as_the_history_has_it_under_the_same_id() -> None:
    table = Table(parked(paid("o-1"), "notify"))
    table.announced = paid("o-1")
    action = events.announce(table.parked_event, REQUEST)
    assert await handler(table).handle(action) == "done"
    sent = table.announced.id
    assert table.calls == [f"sending {sent}", f"published {sent} as {action.id}", "done"]


async def test_a_change_that_the_history_does_not_have_is_not_announced() -> None:
    table = Table(parked(paid("o-1"), "notify"))
    assert await handler(table).handle(events.announce(table.parked_event, REQUEST)) == "refused"
    assert table.calls == ["recorded announced"]
