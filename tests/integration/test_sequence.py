"""What comes late takes effect in its sequence or not at all: replays, edits, and what the audit publishes again.

The stages are processes, on real Kafka and PostgreSQL. Some events fail at a stage and become dead letters or are
dropped, as KafkaSource may do.
"""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from support.events import event, paid, placed
from support.flow import Flow, flow

from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.places import Place
from orderflow_sandbox.servers.postgres import create_database, drop_database


@pytest.fixture(scope="module")
def shop(kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    name = f"test_{uuid.uuid4().hex}"
    own = create_database(database_url, name)
    with flow(kafka_bootstrap, own, tmp_path_factory.mktemp("sequence"), more=("park",)) as opened:
        learn_the_topics_ids(opened)
        yield opened
    drop_database(database_url, name)


def learn_the_topics_ids(shop: Flow) -> None:
    """A stage waits for the ids two seconds at most. Without them, events have no place."""
    numbers = count()

    def known() -> bool:
        order_id = f"{shop.prefix}first-{next(numbers)}"
        failed = event("held", order_id)
        shop.failing = {("validate", failed.id): "dead letter"}
        shop.publish(failed, placed(order_id))
        shop.settle()
        validated = [
            each for topic, each in shop.tap.seen if (topic, each.subject) == (topics.EVENTS, order_id)
        ]
        parked = shop.rows("SELECT topic_id FROM parked WHERE order_id = %s", order_id)
        return all("inboxplace" in each.extensions for each in validated) and all(
            row["topic_id"] for row in parked
        )

    shop.until(known)


def kinds(shop: Flow, order_id: str) -> list[str]:
    return [change["kind"] for change in shop.order(order_id)["history"]]


def letter(shop: Flow, order_id: str, event_id: str, state: str = "open") -> dict[str, Any]:
    (found,) = [
        each for each in shop.parked(order_id) if each["origin_id"] == event_id and each["state"] == state
    ]
    return found


def first_record(shop: Flow, sent: CloudEvent) -> tuple[int, int]:
    """The partition and offset of an event's first record in the inbox."""
    seen = zip(shop.tap.seen, shop.tap.places, strict=True)
    return next(place for (topic, each), place in seen if topic == topics.INBOX and each.id == sent.id)


def inbox_id(shop: Flow, order_id: str) -> str:
    """The inbox topic's id, from the place that validate gave to an event."""
    validated = next(
        each for topic, each in shop.tap.seen if topic == topics.EVENTS and each.subject == order_id
    )
    place = Place.parse(validated.extensions["inboxplace"])
    assert place is not None
    return place.topic_id


def published_again(shop: Flow, sent: CloudEvent) -> CloudEvent:
    """As the audit publishes an event of the inbox that it misses."""
    place = Place(inbox_id(shop, sent.subject), *first_record(shop, sent))
    return sent.with_extensions(firstplace=str(place))


def test_dead_letters_of_two_stages_are_replayed_in_the_sequence_of_their_events(shop: Flow) -> None:
    """R1: released, which failed at track, overtook held, which failed at validate."""
    order_id = shop.prefix + "stages"
    held, released = event("held", order_id), event("released", order_id)
    shop.failing = {("validate", held.id): "dead letter", ("track", released.id): "dead letter"}
    shop.publish(placed(order_id), held, released)
    shop.until(lambda: len(shop.parked(order_id)) == 2)
    assert kinds(shop, order_id) == ["accepted"]
    shop.act("/api/parked/replay", {"order": order_id})
    shop.settle()
    assert kinds(shop, order_id) == ["accepted", "held", "released"]
    assert shop.order(order_id)["status"] == "accepted"
    assert {each["state"] for each in shop.parked(order_id)} == {"replayed"}
    assert shop.rows("SELECT 1 FROM parked WHERE order_id = %s AND replayed_at IS NULL", order_id) == []


def test_an_edit_and_a_replay_of_one_order_take_effect_in_the_sequence_in_which_they_were_sent(
    shop: Flow,
) -> None:
    """R2: declined was replayed straight to track and overtook the edited authorised."""
    order_id = shop.prefix + "mixed"
    authorised = event("authorised", order_id, {"amount": 1, "currency": "EUR"})
    declined = event("declined", order_id)
    shop.failing = {("track", declined.id): "dead letter"}
    shop.publish(placed(order_id), authorised, declined)
    shop.until(lambda: len(shop.parked(order_id)) == 2)
    mended = letter(shop, order_id, authorised.id)
    shop.act(f"/api/parked/{mended['id']}/edit", {"set": {"data.amount": 2900}})
    shop.act(f"/api/parked/{letter(shop, order_id, declined.id)['id']}/replay")
    shop.settle()
    assert kinds(shop, order_id) == ["accepted", "authorised", "declined"]
    assert shop.order(order_id)["payment"] == "failed"


def test_replayed_in_the_wrong_sequence_the_earlier_event_is_overtaken_until_an_operator_insists(
    shop: Flow,
) -> None:
    order_id = shop.prefix + "wrong"
    authorised = event("authorised", order_id, {"amount": 2900, "currency": "EUR"})
    declined = event("declined", order_id)
    shop.failing = {("track", each.id): "dead letter" for each in (authorised, declined)}
    shop.publish(placed(order_id), authorised, declined)
    shop.until(lambda: len(shop.parked(order_id)) == 2)
    for each in (declined, authorised):
        shop.act(f"/api/parked/{letter(shop, order_id, each.id)['id']}/replay")
        shop.settle()
    assert kinds(shop, order_id) == ["accepted", "declined"]
    overtaken = letter(shop, order_id, authorised.id)
    assert overtaken["reasons"][0]["code"] == "overtaken"
    answer = shop.act(f"/api/parked/{overtaken['id']}/replay")
    shop.settle()
    assert shop.results(answer)[0]["event_outcome"] == "applied"
    assert kinds(shop, order_id) == ["accepted", "declined", "authorised"]
    assert [each["state"] for each in shop.parked(order_id)] == ["replayed"] * 3


def test_what_the_audit_publishes_again_does_not_undo_what_came_after(shop: Flow) -> None:
    """Q1: the order was held for good, and the audit said complete."""
    order_id = shop.prefix + "audit"
    held, released = event("held", order_id), event("released", order_id)
    shop.failing = {("validate", held.id): "dropped"}
    shop.publish(placed(order_id), held, released)
    shop.settle()
    shop.publish(published_again(shop, held))
    shop.settle()
    assert kinds(shop, order_id) == ["accepted"]
    ledger = {each["kind"]: each["outcome"] for each in shop.order(order_id)["ledger"]}
    assert ledger == {"accepted": "applied", "released": "refused", "held": "parked"}
    overtaken = letter(shop, order_id, held.id)
    assert overtaken["reasons"][0]["code"] == "overtaken"
    (row,) = shop.rows("SELECT decided FROM orders WHERE order_id = %s", order_id)
    partition, offset = first_record(shop, released)
    assert row["decided"] == {
        held.source: {"place": f"{inbox_id(shop, order_id)}:{partition}:{offset}", "sequence": None}
    }


def test_a_sequence_tells_which_event_is_the_later_one_even_where_the_log_has_them_the_other_way_round(
    shop: Flow,
) -> None:
    order_id = shop.prefix + "numbers"
    second, first = (event(kind, order_id) for kind in ("released", "held"))
    shop.publish(placed(order_id), second.with_extensions(sequence="2"), first.with_extensions(sequence="1"))
    shop.until(lambda: bool(shop.parked(order_id)))
    assert letter(shop, order_id, first.id)["reasons"][0]["code"] == "overtaken"
    assert shop.order(order_id)["status"] == "accepted"


def test_a_replay_that_is_delivered_again_after_later_events_is_not_decided_again(shop: Flow) -> None:
    """T1 and T2: a refused replay took effect when it was delivered once more."""
    order_id = shop.prefix + "again"
    held = event("held", order_id)
    shop.failing = {("track", held.id): "dead letter"}
    shop.publish(placed(order_id), held, event("held", order_id, source="/operators"))
    shop.until(lambda: bool(shop.parked(order_id)))
    shop.settle()
    shop.act("/api/parked/replay", {"order": order_id})
    shop.settle()
    shop.publish(event("released", order_id, source="/operators"), paid(order_id, source="/bank"))
    shop.settle()
    replays = [each for _, each in shop.tap.seen if each.subject == order_id and "replay" in each.extensions]
    stages = ["validate" if each.id == held.id else "track" for each in replays]
    assert sorted(stages) == ["track", "validate"]
    for stage, each in zip(stages, replays, strict=True):
        assert shop.stages[stage].binary(each).status_code == 204
    shop.settle()
    assert kinds(shop, order_id) == ["accepted", "held", "released", "paid"]
    (row,) = shop.rows("SELECT outcome, replays FROM ledger WHERE id = %s", held.id)
    assert (row["outcome"], len(row["replays"])) == ("refused", 1)


def test_a_content_that_an_edit_replaced_is_a_duplicate_when_it_is_delivered_again(shop: Flow) -> None:
    order_id = shop.prefix + "former"
    wrong = paid(order_id, amount=1)
    shop.publish(placed(order_id), wrong)
    shop.until(lambda: bool(shop.parked(order_id)))
    mended = letter(shop, order_id, wrong.id)
    shop.act(f"/api/parked/{mended['id']}/edit", {"set": {"data.amount": 2900}})
    shop.settle()
    shop.publish(wrong)
    shop.settle()
    assert shop.order(order_id)["payment"] == "paid"
    assert [each["code"] for each in shop.rows("SELECT code FROM parked WHERE order_id = %s", order_id)] == [
        "amount_mismatch"
    ]
    shop.publish(paid(order_id, amount=7, id=wrong.id))
    shop.settle()
    assert letter(shop, order_id, wrong.id)["reasons"][0]["code"] == "event_id_reused"


def test_an_event_is_known_by_what_was_sent_or_where_an_older_release_wrote_its_row_by_its_old_digest(
    shop: Flow,
) -> None:
    order_id = shop.prefix + "digests"
    sent = placed(order_id)
    shop.publish(sent)
    shop.settle()
    (row,) = shop.rows(
        """SELECT l.content_digest AS own, o.content_digest AS of_order FROM ledger l JOIN orders o USING (order_id)
           WHERE order_id = %s""",
        order_id,
    )
    assert row["own"] == row["of_order"]
    assert row["own"].startswith("2:")
    again = replace(sent, id=f"{sent.id}-again")
    for change in (
        "UPDATE ledger SET digest = 'of another release' WHERE order_id = %s RETURNING 1",
        "UPDATE ledger SET digest = %s, content_digest = NULL RETURNING 1",
    ):
        old = [
            each
            for _, each in shop.tap.seen
            if each.subject == order_id and "origindigest" in each.extensions
        ]
        value = order_id if "order_id" in change else old[0].extensions["origindigest"]
        shop.rows(change, value)
        shop.publish(sent, again)
        shop.settle()
    assert shop.parked(order_id) == []
    assert kinds(shop, order_id) == ["accepted"]
