"""What shelve decides on an operator's action."""

import pytest
from support.events import paid
from support.parked_events import REQUEST, parked

from orderflow.actions import events
from orderflow.shelve.handler import decide


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
