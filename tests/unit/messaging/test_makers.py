"""Every event names the revision that made it, from stage to stage."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.events import paid, placed
from support.statuses import announced
from support.tracked_order import after

from orderflow.actions import resend
from orderflow.actions.parked_event import ParkedEvent
from orderflow.domain.rules import Rules
from orderflow.messaging import cloudevent, makers, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision
from orderflow.track.decision import Plan, Snapshot
from orderflow.validate.handler import validate

INTAKE, VALIDATE, TRACK = "intake-00002", "validate-00003", "track-00004"
TAKEN = makers.taken_by(placed("o-1"), INTAKE)


def tracked(event: CloudEvent, snapshot: Snapshot | None = None, revision: str = TRACK) -> Plan:
    arrival = decision.read(validate(event, Rules(), VALIDATE))
    return decision.plan(arrival, snapshot or Snapshot(), revision)


@pytest.mark.parametrize("event", [TAKEN, makers.taken_by(paid("o-1"), INTAKE)], ids=["verdict", "update"])
def test_what_validate_publishes_names_the_revisions_of_intake_and_of_validate(event: CloudEvent) -> None:
    published = validate(event, Rules(), VALIDATE)
    assert (published.extensions["takenby"], published.extensions["validatedby"]) == (INTAKE, VALIDATE)


def test_an_event_of_no_known_revision_names_none() -> None:
    sent = placed("o-1")
    assert makers.taken_by(sent, "") is sent
    published = validate(sent, Rules())
    assert not {"takenby", "validatedby"} & published.extensions.keys()
    assert "trackedby" not in announced("paid").extensions


@pytest.mark.parametrize("value", ["jane@example.org", "intake 1", "x" * 64, "-a", "Intake-1"])
def test_a_producers_text_is_no_revision(value: str) -> None:
    event = placed("o-1").with_extensions(takenby=value)
    assert "takenby" not in validate(event, Rules()).extensions


def test_the_ledger_names_the_revisions_that_made_the_event() -> None:
    (entry,) = tracked(TAKEN).entries
    assert (entry.taken_by, entry.validated_by) == (INTAKE, VALIDATE)


def test_a_status_event_names_the_revision_that_rendered_it_also_where_a_duplicate_repeats_it() -> None:
    first = tracked(TAKEN)
    known = replace(after(first), entry=first.entries[0], changes=tuple(first.changes))
    repeated = tracked(TAKEN, known, "track-00005")
    assert [event.extensions["trackedby"] for event in first.announced] == [TRACK]
    assert [event.extensions["trackedby"] for event in repeated.announced] == ["track-00005"]
    assert first.announced[0].data == repeated.announced[0].data


def test_an_event_without_room_for_its_maker_is_taken_as_before() -> None:
    full = placed("o-1").with_extensions(**{f"x{n}": "1" for n in range(cloudevent.MAX_EXTENSIONS)})
    assert makers.taken_by(full, INTAKE) == full
    large = placed("o-1").with_extensions(**{f"x{n}": "1" * 1020 for n in range(8)})
    assert makers.taken_by(large, INTAKE) == large
    assert "takenby" in makers.taken_by(placed("o-1").with_extensions(x="1"), INTAKE).extensions


def parked_at_track(event: CloudEvent) -> ParkedEvent:
    published = validate(event, Rules(), VALIDATE)
    return ParkedEvent(
        id="p-1",
        order_id=event.subject,
        stage="track",
        state="open",
        parked_at=datetime(2026, 11, 29, tzinfo=UTC),
        codes=("value_invalid",),
        topic=topics.EVENTS,
        attributes=published.attributes(),
        payload=published.data,
    )


def test_a_replay_and_an_edit_keep_the_revision_of_intake() -> None:
    parked = parked_at_track(TAKEN)
    _, replayed = resend.original_event(parked, "a-1")
    assert replayed.extensions["takenby"] == INTAKE
    edited = resend.edited_event(parked, resend.document(parked), "a-1")
    assert edited.extensions["takenby"] == INTAKE
