"""Track as a real process, on real Kafka and PostgreSQL: once, in sequence, whatever happens in between."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from support.events import event, order, paid, placed
from support.places import places
from support.stage import Stage
from support.topics import Tap
from support.waiting import until

from orderflow.adapters.postgres.pool import Database
from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules, Waiting
from orderflow.errors import ConflictError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.settings import DatabaseSettings
from orderflow.track import decision
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from orderflow.validate.handler import validate
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics


@pytest.fixture(scope="module")
def database(database_url: str) -> str:
    migrate(database_url)
    return database_url


@pytest.fixture(scope="module")
def track(kafka_bootstrap: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    create_order_topics(kafka_bootstrap, 4)
    log = tmp_path_factory.mktemp("track") / "track.log"
    with Stage("track", log, KAFKA_BOOTSTRAP=kafka_bootstrap, DATABASE_URL=database) as stage:
        yield stage


@pytest.fixture(scope="module")
def tap(kafka_bootstrap: str, track: Stage) -> Iterator[Tap]:
    reader = Tap(kafka_bootstrap, topics.STATUS, topics.PARKED)
    yield reader
    reader.close()


def record_replay(database: str, action_id: str, sent: CloudEvent) -> None:
    """As shelve does before it sends an event again."""
    statement = """
    INSERT INTO operator_actions (id, request, kind, order_id, by, detail, outcome, occurred_at)
    VALUES (%s, 'r', 'replayed', %s, 'anna', json_build_object('source', %s::text, 'event_id', %s::text), 'sending',
            now())
    """
    with psycopg.connect(database) as connection:
        connection.execute(statement, [action_id, sent.subject, sent.source, sent.id])


class RecordingPublisher:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[tuple[str, CloudEvent]] = []

    async def publish(self, topic: str, events: Any) -> None:
        self.events += [(topic, each) for each in events]


def validated(sent: CloudEvent, rules: Rules | None = None) -> CloudEvent:
    return validate(sent, rules or Rules())


def rows(database: str, query: str, order_id: str) -> list[dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return connection.execute(query, (order_id,)).fetchall()  # type: ignore[arg-type]


def end(database: str, order_id: str) -> tuple[str, str] | None:
    order_rows = rows(database, "SELECT status, payment FROM orders WHERE order_id = %s", order_id)
    return (order_rows[0]["status"], order_rows[0]["payment"]) if order_rows else None


def kinds(database: str, order_id: str) -> list[str]:
    row_list = rows(database, "SELECT kind FROM history WHERE order_id = %s ORDER BY version", order_id)
    return [row["kind"] for row in row_list]


async def with_store(database: str, use: Callable[[OrderStore], Awaitable[None]]) -> None:
    pool = Database(DatabaseSettings(database_url=SecretStr(database)))
    try:
        await use(OrderStore(pool, revision="before-the-crash", waiting=Waiting()))
    finally:
        await pool.close()


def test_an_order_goes_through_its_life_in_both_modes(track: Stage, tap: Tap, database: str) -> None:
    events = [
        placed("life"),
        paid("life"),
        event("packed", "life"),
        event("shipped", "life", {"tracking": "1"}),
    ]
    events += [
        event("delivered", "life"),
        event("returned", "life"),
        event("refunded", "life", {"amount": 2900, "currency": "EUR"}),
    ]
    for number, each in enumerate(events):
        send = track.binary if number % 2 else track.structured
        assert send(validated(each)).status_code == 204
    assert end(database, "life") == ("returned", "refunded")
    announced = tap.until(lambda topic, event: topic == topics.STATUS and event.subject == "life", 7)
    assert [json.loads(each.data)["version"] for each in announced] == [1, 2, 3, 4, 5, 6, 7]


def test_eight_deliveries_at_once_take_effect_once_and_are_announced_under_one_id(
    track: Stage, tap: Tap, database: str
) -> None:
    placing = validated(placed("eight"))
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: track.binary(placing), range(8))} == {204}
    assert kinds(database, "eight") == ["accepted"]
    announced = tap.until(lambda topic, event: topic == topics.STATUS and event.subject == "eight", 8)
    assert len({(each.id, each.data) for each in announced}) == 1


def test_a_crash_between_commit_and_announcement_is_made_good_by_the_next_delivery(
    track: Stage, tap: Tap, database: str
) -> None:
    placing = validated(placed("crashed"))

    async def commit_only(store: OrderStore) -> None:
        arrival = decision.read(placing)
        (known,) = await store.read([arrival])
        await store.write([decision.plan(arrival, known, "before-the-crash")])

    asyncio.run(with_store(database, commit_only))
    assert kinds(database, "crashed") == ["accepted"]
    assert track.binary(placing).status_code == 204
    (status_event,) = tap.until(lambda topic, event: topic == topics.STATUS and event.subject == "crashed")
    assert json.loads(status_event.data)["status"] == "accepted"
    assert kinds(database, "crashed") == ["accepted"]
    ledger = rows(database, "SELECT revision FROM ledger WHERE order_id = %s", "crashed")
    assert [row["revision"] for row in ledger] == ["before-the-crash"]


def test_a_writer_that_read_before_another_wrote_changes_nothing(database: str) -> None:
    async def race(store: OrderStore) -> None:
        first = decision.read(validated(placed("fenced")))
        (known,) = await store.read([first])
        await store.write([decision.plan(first, known, "r")])
        late, quick = (decision.read(validated(event(kind, "fenced"))) for kind in ("cancelled", "shipped"))
        stale_view, fresh_view = await store.read([late, quick])
        await store.write([decision.plan(quick, fresh_view, "r")])
        with pytest.raises(ConflictError):
            await store.write([decision.plan(late, stale_view, "r")])

    asyncio.run(with_store(database, race))
    assert end(database, "fenced") == ("shipped", "unpaid")
    ledger = rows(database, "SELECT kind FROM ledger WHERE order_id = %s", "fenced")
    assert {row["kind"] for row in ledger} == {"accepted", "shipped"}


def test_an_event_cannot_begin_to_wait_for_what_has_come_meanwhile(database: str) -> None:
    async def race(store: OrderStore) -> None:
        first = decision.read(validated(placed("meanwhile")))
        (known,) = await store.read([first])
        await store.write([decision.plan(first, known, "r")])
        delivered, shipped = (
            decision.read(validated(event(kind, "meanwhile"))) for kind in ("delivered", "shipped")
        )
        before, fresh = await store.read([delivered, shipped])
        await store.write([decision.plan(shipped, fresh, "r")])
        with pytest.raises(ConflictError):
            await store.write([decision.plan(delivered, before, "r")])
        await Tracker(store, RecordingPublisher(), places(), "r").handle(delivered.event)

    asyncio.run(with_store(database, race))
    assert end(database, "meanwhile") == ("delivered", "unpaid")


def test_what_began_to_wait_meanwhile_is_not_passed_over_by_what_it_waits_for(database: str) -> None:
    """Only the order's lock tells the two apart: no version was used twice."""

    async def race(store: OrderStore) -> None:
        first = decision.read(validated(placed("overtaken")))
        (known,) = await store.read([first])
        await store.write([decision.plan(first, known, "r")])
        delivered, shipped = (
            decision.read(validated(event(kind, "overtaken"))) for kind in ("delivered", "shipped")
        )
        fresh, before = await store.read([delivered, shipped])
        await store.write([decision.plan(delivered, fresh, "r")])
        with pytest.raises(ConflictError):
            await store.write([decision.plan(shipped, before, "r")])
        await Tracker(store, RecordingPublisher(), places(), "r").handle(shipped.event)

    asyncio.run(with_store(database, race))
    assert kinds(database, "overtaken") == ["accepted", "shipped", "delivered"]
    assert rows(database, "SELECT 1 FROM waiting WHERE order_id = %s", "overtaken") == []


def test_a_placing_and_a_payment_at_the_same_moment_never_miss_each_other(database: str) -> None:
    async def both(store: OrderStore) -> None:
        second_store = OrderStore(
            Database(DatabaseSettings(database_url=SecretStr(database))), revision="b", waiting=Waiting()
        )
        trackers = [Tracker(each, RecordingPublisher(), places(), "r") for each in (store, second_store)]
        for number in range(40):
            name = f"race-{number}"
            await asyncio.gather(
                trackers[0].handle(validated(placed(name))), trackers[1].handle(validated(paid(name)))
            )
        await second_store._database.close()

    asyncio.run(with_store(database, both))
    assert {end(database, f"race-{number}") for number in range(40)} == {("accepted", "paid")}
    assert rows(database, "SELECT 1 FROM waiting WHERE order_id LIKE %s", "race-%") == []


def test_what_waits_too_long_is_parked(database: str) -> None:
    publisher = RecordingPublisher()

    async def wait_in_vain(store: OrderStore) -> None:
        hasty = OrderStore(store._database, revision="r", waiting=Waiting(hours=0.0000001))
        tracker = Tracker(hasty, publisher, places(), "r")
        await tracker.handle(validated(paid("vain")))
        assert await tracker.sweep() >= 1
        assert await tracker.sweep() == 0

    asyncio.run(with_store(database, wait_in_vain))
    ((topic, parked),) = [each for each in publisher.events if each[1].subject == "vain"]
    assert topic == topics.PARKED
    assert json.loads(parked.data)["reasons"][0]["code"] == "waited_too_long"
    assert rows(database, "SELECT outcome FROM ledger WHERE order_id = %s", "vain") == [{"outcome": "parked"}]
    assert rows(database, "SELECT 1 FROM waiting WHERE order_id = %s", "vain") == []


def test_an_order_that_was_never_placed_leaves_no_row_a_day_after_its_last_event(database: str) -> None:
    def known() -> set[str]:
        return {
            name
            for name in ("never", "lately", "still")
            if rows(database, "SELECT 1 FROM orders WHERE order_id = %s", name)
        }

    async def wait_in_vain(store: OrderStore) -> None:
        hasty = OrderStore(store._database, revision="r", waiting=Waiting(hours=0.0000001))
        tracker = Tracker(hasty, RecordingPublisher(), places(), "r")
        for name in ("never", "lately", "still"):
            await tracker.handle(validated(paid(name)))
        await tracker.sweep()
        patient = Tracker(store, RecordingPublisher(), places(), "r")
        await patient.handle(validated(event("packed", "still")))
        for name in ("never", "still"):
            rows(
                database,
                "UPDATE orders SET updated_at = now() - interval '2 days' WHERE order_id = %s RETURNING 1",
                name,
            )
        await tracker.sweep()
        assert known() == {"lately", "still"}
        assert rows(database, "SELECT 1 FROM order_search WHERE order_id = %s", "never") == []
        await patient.handle(validated(placed("never")))

    asyncio.run(with_store(database, wait_in_vain))
    assert end(database, "never") == ("accepted", "unpaid")


def test_a_mended_replay_takes_effect_once_and_what_waited_for_it_follows(database: str) -> None:
    publisher = RecordingPublisher()
    wrong = paid("mended", amount=1)
    record_replay(database, "a-mended", wrong)
    refund = event("refunded", "mended", {"amount": 2900, "currency": "EUR"})
    corrected = replace(wrong, data=paid("mended").data, extensions={"replay": "a-mended"})

    async def mend(store: OrderStore) -> None:
        tracker = Tracker(store, publisher, places(), "r")
        for sent in (placed("mended"), wrong, refund, corrected):
            await tracker.handle(validated(sent))
        await asyncio.gather(
            *(Tracker(store, publisher, places(), "r").handle(validated(corrected)) for _ in range(8))
        )

    asyncio.run(with_store(database, mend))
    assert kinds(database, "mended") == ["accepted", "paid", "refunded"]
    outcomes = rows(database, "SELECT outcome FROM ledger WHERE order_id = %s", "mended")
    assert outcomes == [{"outcome": "applied"}] * 3
    assert len([topic for topic, _ in publisher.events if topic == topics.PARKED]) == 1


def test_one_event_that_two_mend_for_two_orders_at_the_same_moment_takes_effect_in_one(database: str) -> None:
    """Their orders have nothing in common: only the ledger's row tells that it was settled meanwhile."""
    wrong = paid("mended-1", amount=1)
    replays = [
        replace(paid(order_id), id=wrong.id, extensions={"replay": order_id})
        for order_id in ("mended-1", "mended-2")
    ]
    for each in replays:
        record_replay(database, each.extensions["replay"], wrong)

    async def race(store: OrderStore) -> None:
        tracker = Tracker(store, RecordingPublisher(), places(), "r")
        for sent in (placed("mended-1"), placed("mended-2"), wrong):
            await tracker.handle(validated(sent))
        arrivals = [decision.read(validated(each)) for each in replays]
        plans = [
            decision.plan(now, known, "r")
            for now, known in zip(arrivals, await store.read(arrivals), strict=True)
        ]
        await store.write(plans[:1])
        with pytest.raises(ConflictError):
            await store.write(plans[1:])

    asyncio.run(with_store(database, race))
    assert [end(database, f"mended-{number}") for number in (1, 2)] == [
        ("accepted", "paid"),
        ("accepted", "unpaid"),
    ]


def test_what_waited_in_vain_waits_again_when_it_is_replayed(database: str) -> None:
    publisher = RecordingPublisher()
    early = paid("patience")
    record_replay(database, "a-patience", early)

    async def replay(store: OrderStore) -> None:
        hasty = OrderStore(store._database, revision="r", waiting=Waiting(hours=0.0000001))
        await Tracker(hasty, publisher, places(), "r").handle(validated(early))
        await Tracker(hasty, publisher, places(), "r").sweep()
        patient = Tracker(store, publisher, places(), "r")
        await patient.handle(validated(early.with_extensions(replay="a-patience")))
        await patient.handle(validated(placed("patience")))

    asyncio.run(with_store(database, replay))
    assert end(database, "patience") == ("accepted", "paid")


def test_each_kind_of_event_waits_as_long_as_the_shop_says(database: str) -> None:
    async def wait(store: OrderStore) -> None:
        own = OrderStore(store._database, revision="r", waiting=Waiting(hours=1, by_kind={"cancelled": 5}))
        for early in (paid("by-kind"), event("cancelled", "by-kind")):
            await Tracker(own, RecordingPublisher(), places(), "r").handle(validated(early))

    asyncio.run(with_store(database, wait))
    query = """SELECT kind, round(extract(epoch FROM expires_at - now()) / 3600)::int AS hours
               FROM waiting WHERE order_id = %s ORDER BY 1"""
    assert rows(database, query, "by-kind") == [
        {"kind": "cancelled", "hours": 5},
        {"kind": "paid", "hours": 1},
    ]


def test_one_bad_event_among_many_fails_none_of_its_neighbours(track: Stage, tap: Tap, database: str) -> None:
    names = [f"crowd-{number}" for number in range(200)]
    events = [validated(placed(name)) for name in names]
    events[50] = replace(events[50], data=b'{"order":{}}')
    with ThreadPoolExecutor(50) as pool:
        assert {answer.status_code for answer in pool.map(track.binary, events)} == {204}
    assert [name for name in names if end(database, name) != ("accepted", "unpaid")] == ["crowd-50"]
    tap.until(lambda topic, event: topic == topics.PARKED and event.subject == "crowd-50")


def test_an_id_used_again_for_other_content_is_parked(track: Stage, tap: Tap, database: str) -> None:
    placing = placed("reused")
    assert track.binary(validated(placing)).status_code == 204
    changed = replace(placing, data=json.dumps(order(metadata={"gift": "yes"})).encode())
    assert track.binary(validated(changed)).status_code == 204
    (parked,) = tap.until(lambda topic, event: topic == topics.PARKED and event.subject == "reused")
    assert json.loads(parked.data)["reasons"][0]["code"] == "event_id_reused"
    order_rows = rows(database, "SELECT document FROM orders WHERE order_id = %s", "reused")
    assert "gift" not in json.dumps(order_rows[0]["document"])


def test_an_id_used_again_for_another_order_is_parked_and_neither_announced_nor_applied(
    track: Stage, tap: Tap, database: str
) -> None:
    for name in ("shared-1", "shared-2"):
        assert track.binary(validated(placed(name))).status_code == 204
        assert track.binary(validated(event("packed", name, id="one-id-for-both"))).status_code == 204
    assert [kinds(database, name) for name in ("shared-1", "shared-2")] == [
        ["accepted", "packed"],
        ["accepted"],
    ]
    (parked,) = tap.until(lambda topic, event: topic == topics.PARKED and event.subject == "shared-2")
    assert json.loads(parked.data)["reasons"][0]["code"] == "event_id_reused"


def test_two_orders_under_one_event_id_at_the_same_moment_do_not_both_take_it(
    track: Stage, tap: Tap, database: str
) -> None:
    events = [
        validated(event("placed", name, order(), id="one-id-at-once")) for name in ("atonce-1", "atonce-2")
    ]
    with ThreadPoolExecutor(2) as pool:
        assert {answer.status_code for answer in pool.map(track.binary, events)} == {204}
    stored = [each for each in ("atonce-1", "atonce-2") if end(database, each)]
    assert len(stored) == 1
    (parked_order,) = {"atonce-1", "atonce-2"} - set(stored)
    tap.until(lambda topic, event: topic == topics.PARKED and event.subject == parked_order)


def test_another_order_under_an_order_id_is_parked(track: Stage, tap: Tap, database: str) -> None:
    assert track.binary(validated(placed("twice"))).status_code == 204
    assert track.binary(validated(placed("twice"))).status_code == 204
    assert track.binary(validated(placed("twice", metadata={"gift": "yes"}))).status_code == 204
    ledger = rows(database, "SELECT outcome FROM ledger WHERE order_id = %s ORDER BY recorded_at", "twice")
    assert [row["outcome"] for row in ledger] == ["applied", "refused", "parked"]
    (parked,) = tap.until(lambda topic, event: topic == topics.PARKED and event.subject == "twice")
    assert json.loads(parked.data)["reasons"][0]["code"] == "order_id_reused"


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00+14:00", "9998-12-31T23:59:59-12:00"])
def test_the_oddest_times_are_stored_and_announced_as_they_were(
    track: Stage, tap: Tap, database: str, time: str
) -> None:
    name = f"time-{time[:4]}"
    validated_event = validated(event("placed", name, order(), time=time))
    for _ in range(2):
        assert track.binary(validated_event).status_code == 204
    assert kinds(database, name) == ["accepted"]
    announced = tap.until(lambda topic, event: topic == topics.STATUS and event.subject == name, 2)
    assert len({(each.id, each.time, each.data) for each in announced}) == 1


def test_an_order_of_the_largest_amount_is_stored_and_refunded_to_the_last_cent(
    track: Stage, database: str
) -> None:
    most = 2**53 - 1
    lines = [{"sku": "A", "quantity": 1, "unit_price": most}]
    events = [placed("most", lines=lines, shipping=0, total=most), paid("most", amount=most)]
    events += [event("refunded", "most", {"amount": part, "currency": "EUR"}) for part in (most - 1, 1)]
    for each in events:
        assert track.binary(validated(each)).status_code == 204
    assert end(database, "most") == ("accepted", "refunded")


def test_a_held_order_with_spaces_in_its_json_is_a_verdict_all_the_same(track: Stage, database: str) -> None:
    verdict = validated(placed("spaced"), Rules(review={"EUR": 1}))
    assert (
        track.binary(
            replace(verdict, data=json.dumps(json.loads(verdict.data), separators=(" , ", " : ")).encode())
        ).status_code
        == 204
    )
    assert end(database, "spaced") == ("held", "unpaid")


def test_no_log_of_track_has_personal_data(track: Stage, database: str) -> None:
    valid = validated(placed("quiet", customer={"name": "Zzyzx Canary", "email": "canary@example.org"}))
    for each in (valid, replace(valid, data=b'{"canary@example.org":1}'), replace(valid, type="canary")):
        assert track.binary(each).status_code == 204
    text = track.log.read_text().lower()
    assert "canary" not in text
    assert "traceback" not in text


def test_a_forbidden_event_is_parked_and_a_stale_one_is_refused(
    track: Stage, tap: Tap, database: str
) -> None:
    for kind in ("placed", "shipped", "packed", "cancelled"):
        order_event = placed("moved") if kind == "placed" else event(kind, "moved")
        assert track.binary(validated(order_event)).status_code == 204
    ledger = rows(database, "SELECT kind, outcome FROM ledger WHERE order_id = %s", "moved")
    assert {row["kind"]: row["outcome"] for row in ledger} == {
        "accepted": "applied",
        "shipped": "applied",
        "packed": "refused",
        "cancelled": "parked",
    }
    tap.until(lambda topic, event: topic == topics.PARKED and event.subject == "moved")


def test_a_killed_process_loses_nothing_that_it_answered(
    kafka_bootstrap: str, database: str, tmp_path: Path
) -> None:
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "DATABASE_URL": database}
    placing = validated(placed("killed"))
    with Stage("track", tmp_path / "track.log", **environment) as short_lived:
        assert short_lived.binary(placing).status_code == 204
        short_lived.stop(signal.SIGKILL)
    assert end(database, "killed") == ("accepted", "unpaid")


def test_while_the_database_is_away_the_answer_is_503(kafka_bootstrap: str, tmp_path: Path) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "DATABASE_URL": away, "DATABASE_WAIT_SECONDS": "1"}
    with Stage("track", tmp_path / "track.log", **environment) as alone:
        answer = alone.binary(validated(placed("away")))
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert "Traceback" not in alone.log.read_text()


def test_without_kafka_the_rows_are_kept_and_the_answer_is_503(database: str, tmp_path: Path) -> None:
    away = {"KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}", "KAFKA_ACK_SECONDS": "1", "DATABASE_URL": database}
    with Stage("track", tmp_path / "track.log", **away) as alone:
        assert alone.binary(validated(placed("unannounced"))).status_code == 503
    assert kinds(database, "unannounced") == ["accepted"]


def test_migrations_can_be_applied_twice_and_by_two_at_once(fresh_database: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(lambda _: migrate(fresh_database), range(2)))
    assert min(map(len, applied)) == 0
    assert migrate(fresh_database) == []


async def test_a_sweep_and_what_follows_at_the_same_moment_do_not_lock_each_other_out(
    fresh_database: str,
) -> None:
    migrate(fresh_database)
    pool = Database(DatabaseSettings(database_url=SecretStr(fresh_database)))
    hasty = OrderStore(pool, revision="r", waiting=Waiting(hours=0.0000001))
    tracker = Tracker(hasty, RecordingPublisher(), places(), "r")
    await tracker.handle(validated(paid("meet")))
    async with hasty.expired(10) as events:
        assert [each.subject for each in events] == ["meet"]
        placing = asyncio.create_task(tracker.handle(validated(placed("meet"))))
        await asyncio.to_thread(until, lambda: _blocked(fresh_database))
    await placing
    assert end(fresh_database, "meet") == ("accepted", "unpaid")
    assert rows(
        fresh_database, "SELECT outcome FROM ledger WHERE kind = 'paid' AND order_id = %s", "meet"
    ) == [{"outcome": "parked"}]
    await pool.close()


def _blocked(database: str) -> bool:
    with psycopg.connect(database) as connection:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool((connection.execute(query).fetchone() or (0,))[0])
