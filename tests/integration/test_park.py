"""Dead letters, from the sink's HTTP surface to the operators' shelf."""

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from starlette.requests import Request
from support.events import paid
from support.places import NoTopicIds
from support.stage import Stage, binary_headers
from support.topics import Tap

from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.adapters.postgres.schema import migrate
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.parked_event import FALLBACK_PAYLOAD
from orderflow.park.handler import DeadLetterSink
from orderflow.settings import KafkaSettings
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.topics import create_topics


@pytest.fixture(scope="module")
def stages(
    kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Stage, Tap]]:
    migrate(database_url)
    create_order_topics(kafka_bootstrap, 4)
    folder = tmp_path_factory.mktemp("park")
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "DATABASE_URL": database_url}
    with (
        Stage("park", folder / "park.log", **environment) as park,
        Stage("shelve", folder / "shelve.log", **environment) as shelve,
    ):
        tap = Tap(kafka_bootstrap, topics.PARKED)
        yield park, shelve, tap
        tap.close()


def shelved(database: str, parked_id: str) -> dict[str, Any]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        row = connection.execute("SELECT * FROM parked WHERE id = %s", (parked_id,)).fetchone()
    assert row is not None
    return row


def park_and_shelve(
    stages: tuple[Stage, Stage, Tap],
    database: str,
    order_id: str,
    body: bytes | None,
    headers: dict[str, str],
) -> dict[str, Any]:
    """Sends a dead letter to park and the published event to shelve. Returns the shelved row."""
    park, shelve, tap = stages
    request = httpx.Request("POST", f"{park.http.base_url}/", headers=headers, content=body)
    assert park.http.send(request).status_code == 204
    event: CloudEvent = tap.until(lambda _, event: event.subject == order_id)[0]
    assert shelve.binary(event).status_code == 204
    return shelved(database, event.id)


def test_a_dead_letter_is_shelved_whole_with_where_and_why(
    stages: tuple[Stage, Stage, Tap], database_url: str
) -> None:
    event = paid("dead-1")
    error_data = base64.b64encode(
        json.dumps({"code": "unavailable", "title": "the database is away"}).encode()
    ).decode()
    knative_headers = {
        "ce-knativeerrordest": "http://track.orderflow.svc.cluster.local",
        "ce-knativeerrorcode": "503",
        "ce-knativeerrordata": error_data,
        "ce-knativekafkapartition": "3",
        "ce-knativekafkaoffset": "42",
    }
    row = park_and_shelve(stages, database_url, "dead-1", event.data, binary_headers(event) | knative_headers)
    assert (row["stage"], row["http_code"], row["code"]) == ("track", 503, "unavailable")
    assert (row["topic"], row["partition"], row["offset"]) == (topics.EVENTS, 3, 42)
    assert (row["event_id"], row["source"], bytes(row["payload"])) == (event.id, event.source, event.data)


@pytest.mark.parametrize(
    ("order_id", "body"),
    [("nul", b"\x00\x01\xff"), ("tomb", None), ("large", b"x" * 990_000), ("text", b'{"name":"\\u0000"}')],
)
def test_whatever_the_record_was_its_bytes_are_kept(
    stages: tuple[Stage, Stage, Tap], database_url: str, order_id: str, body: bytes | None
) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "dev.knative.kafka.event",
        "ce-source": "/apis/v1/namespaces/orderflow/kafkasources/validate#orders.inbox.v1",
        "ce-id": f"partition:0/offset:{len(body or b'')}",
        "ce-subject": "partition:0#1",
        "ce-key": order_id,
        "ce-kafkaheaderodd": "odd",
    }
    row = park_and_shelve(stages, database_url, order_id, body, headers)
    assert bytes(row["payload"]) == (body or b"")
    assert row["order_id"] == order_id


def test_headers_that_no_database_could_store_are_shelved_all_the_same(
    stages: tuple[Stage, Stage, Tap], database_url: str
) -> None:
    answer = base64.b64encode(b'{"code":"\\u0000\\ud800","title":"\\u0000"}').decode()
    headers = binary_headers(paid("odd-1")) | {
        "ce-knativeerrordest": "http://" + "x" * 5000,
        "ce-knativeerrorcode": "9" * 30,
        "ce-knativeerrordata": answer,
        "ce-knativekafkapartition": str(2**31),
        "ce-knativekafkaoffset": "9" * 5000,
        "ce-tab": "a\tb",
        "content-type": "text/plain; \xe9",
    }
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    row = park_and_shelve(stages, database_url, "odd-1", b"\x00", raw | {"ce-latin": b"caf\xe9 \xff"})  # type: ignore[arg-type]
    assert (row["stage"], row["partition"], row["offset"], row["http_code"]) == ("unknown", None, None, None)
    assert row["code"] == "\\x00\\ud800"
    assert row["attributes"]["latin"] == "caf\xe9 \xff"
    assert bytes(row["payload"]) == b"\x00"


def test_an_answer_nested_beyond_reading_is_parked_with_the_plain_reason(
    stages: tuple[Stage, Stage, Tap], database_url: str
) -> None:
    knative_headers = {
        "ce-knativeerrordata": base64.b64encode(b"[" * 1023).decode(),
        "ce-knativeerrorcode": "500",
    }
    row = park_and_shelve(
        stages, database_url, "odd-2", b"{}", binary_headers(paid("odd-2")) | knative_headers
    )
    assert (row["code"], row["http_code"]) == ("dead_letter", 500)


def test_a_parked_event_that_cannot_be_stored_is_shelved_inside_another(
    stages: tuple[Stage, Stage, Tap], database_url: str
) -> None:
    _, shelve, tap = stages
    park_event = publish_parked_event(stages, "odd-3")
    bad = replace(park_event, data=park_event.data.replace(b'"stage":"unknown"', b'"stage":"\\u0000"'))
    assert bad.data != park_event.data
    assert shelve.binary(bad).status_code == 204
    (nested,) = tap.until(
        lambda _, event: event.subject == "odd-3" and json.loads(event.data)["stage"] == "shelve"
    )
    assert shelve.binary(nested).status_code == 204
    assert bytes(shelved(database_url, nested.id)["payload"]) == bad.data


def publish_parked_event(stages: tuple[Stage, Stage, Tap], order_id: str) -> CloudEvent:
    park, _, tap = stages
    event = paid(order_id)
    assert park.binary(event).status_code == 204
    return tap.until(lambda _, event: event.subject == order_id)[0]


def test_the_same_dead_letter_twice_is_one_row_that_counts(
    stages: tuple[Stage, Stage, Tap], database_url: str
) -> None:
    event = paid("dead-2")
    park_and_shelve(stages, database_url, "dead-2", event.data, binary_headers(event))
    row = park_and_shelve(stages, database_url, "dead-2", event.data, binary_headers(event))
    assert row["times"] == 2


def test_what_is_no_parked_event_is_itself_parked_by_shelve(
    stages: tuple[Stage, Stage, Tap], database_url: str
) -> None:
    _, shelve, tap = stages
    assert shelve.binary(paid("not-parked")).status_code == 204
    parked = tap.until(lambda _, event: event.subject == "not-parked")[0]
    assert json.loads(parked.data)["stage"] == "shelve"


def test_nothing_personal_is_logged(stages: tuple[Stage, Stage, Tap]) -> None:
    park, shelve, _ = stages
    event = paid("quiet")
    park.http.post("/", content=b'{"name":"Canary Person"}', headers=binary_headers(event))
    assert "Canary" not in park.log.read_text() + shelve.log.read_text()


def test_where_the_topic_takes_no_large_record_the_beginning_is_parked(kafka_bootstrap: str) -> None:
    small_topic = "orders.small.v1"
    create_topics(kafka_bootstrap, [small_topic], partitions=1)
    publisher = KafkaPublisher(KafkaSettings(kafka_bootstrap=kafka_bootstrap))

    class SmallTopicPublisher:
        """A publisher to the parked topic of a cluster with the default max.message.bytes."""

        async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
            await publisher.publish(small_topic, events)

    async def post_large_event() -> httpx.Response:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            answer = await DeadLetterSink("r", SmallTopicPublisher(), NoTopicIds()).handle(
                Request(scope, receive)
            )
            await answer(scope, receive, send)

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://park") as client:
            event = paid("too-large")
            return await client.post("/", content=b"x" * 1_000_000, headers=binary_headers(event))

    answer = asyncio.run(post_large_event())
    publisher.close()
    assert answer.status_code == 204
    tap = Tap(kafka_bootstrap, small_topic)
    record = json.loads(tap.until(lambda _, event: event.subject == "too-large")[0].data)
    tap.close()
    assert len(base64.b64decode(record["payload"])) == FALLBACK_PAYLOAD
    assert "payload_cut" in {reason["code"] for reason in record["reasons"]}
