"""Everything that no stage can take, straight into the topics."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from confluent_kafka import Producer

from orderflow.adapters.kafka.producer import producer_config
from orderflow.domain.events import type_of
from orderflow.messaging import topics
from orderflow.settings import KafkaSettings
from tests.chaos.endless_scenarios import endless_scenarios
from tests.chaos.errors import FaultError
from tests.chaos.journal import now
from tests.chaos.scenario import Run, Scenario, pause

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Poison:
    name: str
    value: bytes | None = b"{}"
    headers: Headers | None = None
    key: bytes = b"poisoned"
    topic: str = topics.INBOX

    @property
    def event_id(self) -> str:
        """Empty where the record is no CloudEvent."""
        return (dict(self.headers or []).get("ce_id") or b"").decode()


def _event(kind: str = "paid", *more: tuple[str, bytes | None], **changes: bytes) -> Headers:
    """The headers of a CloudEvent; a changed one that is empty is left out."""
    named = {
        "specversion": b"1.0",
        "type": type_of(kind).encode(),
        "source": b"/chaos",
        "subject": b"poisoned",
        "time": b"2026-11-23T10:00:00Z",
    } | changes
    headers: Headers = [(f"ce_{name}", value) for name, value in named.items() if value]
    return [*headers, ("content-type", b"application/json"), *more]


def _with_ids(poisons: Iterable[Poison], prefix: str) -> list[Poison]:
    """Gives each CloudEvent an id of its own."""
    return [
        Poison(
            each.name,
            each.value,
            [("ce_id", f"{prefix}-{number}".encode()), *each.headers] if each.headers else each.headers,
            each.key,
            each.topic,
        )
        for number, each in enumerate(poisons)
    ]


POISONS = [
    Poison("malformed JSON", b"{not json", _event()),
    Poison("no CloudEvent", b"{not json"),
    Poison("no CloudEvent, binary", b"\x00\xff\xfe"),
    Poison("tombstone", None),
    Poison("tombstone with attributes", None, _event()),
    Poison("NUL in the key", b"{}", _event(), key=b"poi\x00soned"),
    Poison("NUL in the key, no CloudEvent", b"{}", key=b"poi\x00soned"),
    Poison("null-valued header, no CloudEvent", b"{}", [("trace", None)]),
    Poison("next to a null-valued header", b"{}", [("trace", b"there")]),
    Poison("null-valued ce_ header", b"{}", _event("paid", ("ce_traceparent", None))),
    Poison("null-valued header on a CloudEvent", b"{not json", _event("paid", ("trace", None))),
    Poison("malformed ce_: specversion", b"{}", _event(specversion=b"7")),
    Poison("malformed ce_: time", b"{}", _event(time=b"yesterday")),
    Poison("malformed ce_: source", b"{}", _event(source=b"a b")),
    Poison("malformed ce_: extension", b"{}", _event("paid", ("ce_Not-A_Name", b"x"))),
    Poison("no type", b"{}", _event(type=b"")),
    Poison("control character in an attribute", b"{}", _event("paid", ("ce_note", b"a\x07b"))),
    Poison("oversize", b'{"amount":"' + b"9" * 900_000 + b'"}', _event()),
    Poison("bad UTF-8", b'{"amount":1,"currency":"\xff\xfe\xfd"}', _event()),
    Poison("bad UTF-8 in an attribute", b"{}", _event("paid", ("ce_note", b"\xff\xfe"))),
    Poison("unknown type", b"{}", _event(type=b"dev.orderflow.order.teleported.v1")),
    Poison("no subject", b"{}", _event(subject=b"")),
    Poison("a subject that is no order id", b"{}", _event(subject=b"../../etc")),
    Poison("another order's data", b'{"order_id":"other"}', _event("placed")),
    Poison("nested too deeply", b'{"amount":' + b"[" * 50_000 + b"]" * 50_000 + b"}", _event()),
    Poison("structured, not JSON", b"{not json", [("content-type", b"application/cloudevents+json")]),
    Poison("events: without an origin", b"{}", _event(), topic=topics.EVENTS),
    Poison("events: no CloudEvent", b"\x00", topic=topics.EVENTS),
    Poison("status: not announced by track", b"{}", _event(), topic=topics.STATUS),
    Poison("status: NUL in the key", b"{}", _event(), key=b"\x00", topic=topics.STATUS),
]


async def poisoned(run: Run) -> None:
    """With few retries: a NUL in the key of a record that is no CloudEvent holds its partition for two rounds of them
    before the record is dropped."""
    await run.shop.delivery.restart("hasty")
    await run.mid_load()
    with run.fault():
        for place in await asyncio.to_thread(_produce, run.shop.bootstrap, run.prefix):
            run.journal.add_poison(*place)
        await _pay_with_a_nul_in_the_key(run)
        await pause(1.0)
    await run.load.until_sent(30)
    await run.settle()
    await run.shop.delivery.restart()


async def _pay_with_a_nul_in_the_key(run: Run) -> None:
    """The event itself is good, and KafkaSource does not send the key of a CloudEvent: the order is paid."""
    scenario = next(
        endless_scenarios(run.rolls.randrange(2**32), f"{run.prefix}n", frozenset({"not paid yet"}))
    )
    order_id, order = scenario.order_id, json.loads(scenario.messages[0].event.data)
    await run.load.send(replace(scenario, end=("accepted", "paid")))
    paid = json.dumps({"amount": order["total"], "currency": order["currency"]}).encode()
    headers = [("ce_id", f"{order_id}-paid".encode()), *_event(subject=order_id.encode())]
    began = now()
    producer = _producer(run.shop.bootstrap)
    producer.produce(topics.INBOX, paid, f"{order_id}\0".encode(), headers=headers)
    if await asyncio.to_thread(producer.flush, 30):
        raise FaultError("Kafka did not take the payment")
    run.journal.confirm(("/chaos", f"{order_id}-paid"), order_id, began)


def _producer(bootstrap: str) -> Producer:
    return Producer(producer_config(KafkaSettings(kafka_bootstrap=bootstrap, k_revision="poisoner")))


def _produce(bootstrap: str, prefix: str) -> list[tuple[str, str, str, int, int]]:
    """In one go, so that a null-valued header takes others of its poll along. Name, event id, topic, partition
    and offset of each."""
    producer = _producer(bootstrap)
    placed: list[tuple[str, str, str, int, int]] = []
    failed: list[str] = []
    for each in _with_ids(POISONS, prefix):

        def answered(error, message, name=each.name, event_id=each.event_id) -> None:  # noqa: ANN001 - librdkafka calls it
            if error is not None:
                failed.append(f"{name}: {error.name()}")
            else:
                placed.append((name, event_id, message.topic(), message.partition(), message.offset()))

        producer.produce(each.topic, each.value, each.key, headers=each.headers, on_delivery=answered)
    producer.flush(30)
    if failed or len(placed) != len(POISONS):
        raise FaultError(f"Kafka took {len(placed)} poisons of {len(POISONS)}: {', '.join(failed)}")
    return placed


SCENARIOS = [Scenario("poison", "every poison there is", poisoned, runs=len(POISONS), mends=True)]
