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
from tests.chaos.groups import STAGES
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
    mark: str = ""
    """The end of its event id."""

    @property
    def event_id(self) -> str:
        """Empty where the record is no CloudEvent."""
        return (dict(self.headers or []).get("ce_id") or b"").decode()


def _event(kind: str = "paid", *more: tuple[str, bytes | None], **changes: bytes) -> Headers:
    """The headers of a CloudEvent; a changed one that is empty is left out."""
    named = {
        "specversion": b"1.0",
        "type": type_of(kind).encode(),
        "source": b"/payments/chaos",
        "subject": b"poisoned",
        "time": b"2026-11-23T10:00:00Z",
    } | changes
    headers: Headers = [(f"ce_{name}", value) for name, value in named.items() if value]
    return [*headers, ("content-type", b"application/json"), *more]


def _with_ids(poisons: Iterable[Poison], prefix: str) -> list[Poison]:
    """Gives each CloudEvent an id of its own."""
    return [
        replace(each, headers=[("ce_id", f"{prefix}-{number}{each.mark}".encode()), *each.headers])
        if each.headers
        else each
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
    Poison("an id beyond Latin-1", b"{not json", _event(), mark="-\u65e5\u672c\u8a9e"),
    Poison(
        "a source and a subject beyond Latin-1",
        b"{}",
        _event(source="/\u043c\u0438\u0440".encode(), subject="\u20ac-1".encode()),
    ),
    Poison("events: without an origin", b"{}", _event(), topic=topics.EVENTS),
    Poison("events: no CloudEvent", b"\x00", topic=topics.EVENTS),
    Poison("status: not announced by track", b"{}", _event(), topic=topics.STATUS),
    Poison("status: NUL in the key", b"{}", _event(), key=b"\x00", topic=topics.STATUS),
]


_OTHERS = 8
"""Poisons that are not in POISONS: a paid and a placed order, a transaction, and 5 records that are put one by one."""
_UNPACKED_BYTES = 300_000_000
"""More than librdkafka's receive.message.max.bytes."""
_TOO_LARGE_BYTES = 2_500_000
_SECONDS = 60


async def poisoned(run: Run) -> None:
    """With few retries: a NUL in the key of a record that is no CloudEvent holds its partition for two rounds of them
    before the record is dropped."""
    await run.shop.delivery.restart("hasty")
    await run.mid_load()
    with run.fault():
        for place in await asyncio.to_thread(_produce, run.shop.bootstrap, run.prefix):
            run.journal.add_poison(*place)
        await _pay_with_a_nul_in_the_key(run)
        await _place_with_a_null_header(run)
        await asyncio.to_thread(_abort, run.shop.bootstrap, run.prefix)
        await asyncio.to_thread(_refused_unpacked, run.shop.bootstrap)
        run.journal.add_poison(*await asyncio.to_thread(_too_large_to_be_sent_again, run.shop.bootstrap))
        await pause(1.0)
    await run.load.until_sent(30)
    await _what_no_client_can_read(run)
    await run.load.until_sent(10)
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
    run.journal.confirm(("/payments/chaos", f"{order_id}-paid"), order_id, began)


async def _place_with_a_null_header(run: Run) -> None:
    """KafkaSource drops a record with a null-valued header, though the order is good: the audit places it."""
    scenario = next(
        endless_scenarios(run.rolls.randrange(2**32), f"{run.prefix}h", frozenset({"not paid yet"}))
    )
    began = now()
    producer = _producer(run.shop.bootstrap)
    for message in scenario.messages:
        headers: Headers = [*message.event.kafka_headers(), ("trace", None)]
        producer.produce(topics.INBOX, message.event.data, scenario.order_id.encode(), headers=headers)
    if await asyncio.to_thread(producer.flush, _SECONDS):
        raise FaultError("Kafka did not take the order")
    run.load.expect(scenario)
    for message in scenario.messages:
        run.journal.confirm((message.event.source, message.event.id), scenario.order_id, began)


def _abort(bootstrap: str, prefix: str) -> None:
    """None of these may be parked."""
    producer = _producer(bootstrap, **{"transactional.id": f"{prefix}-poison"})
    producer.init_transactions(_SECONDS)
    producer.begin_transaction()
    for each in _with_ids(POISONS, f"{prefix}-aborted"):
        producer.produce(each.topic, each.value, each.key, headers=each.headers)
    producer.flush(_SECONDS)
    producer.abort_transaction(_SECONDS)


def _refused_unpacked(bootstrap: str) -> None:
    """The inbox's broker looks at the size unpacked, so that it takes nothing that its readers cannot unpack."""
    producer = _producer(bootstrap, **_PACKED)
    errors: list[str] = []
    producer.produce(
        topics.INBOX,
        b"x" * _TOO_LARGE_BYTES,
        partition=0,
        on_delivery=lambda error, _: errors.append(error.name() if error else "taken"),
    )
    producer.flush(_SECONDS)
    if errors != ["MSG_SIZE_TOO_LARGE"]:
        raise FaultError(f"the inbox answered {errors} to a record that is too large unpacked")


def _too_large_to_be_sent_again(bootstrap: str) -> tuple[str, str, str, int, int]:
    """KafkaSource drops it for its null-valued header, and only packed it is small enough for the topic."""
    value = b'{"x":"' + b"x" * _TOO_LARGE_BYTES + b'"}'
    headers: Headers = [("ce_id", b"too-large"), *_event("paid", ("trace", None))]
    return _put(
        "events: too large to be sent again", _producer(bootstrap, **_PACKED), topics.EVENTS, value, headers
    )


async def _what_no_client_can_read(run: Run) -> None:
    """librdkafka's binding ends the process at a header whose name is no UTF-8, and does not unpack a record that is
    too large. The sandbox's delivery uses librdkafka, so the groups are moved past the records: they are dropped."""
    load, groups, bootstrap = run.load, run.groups, run.shop.bootstrap
    load.paused = True
    await groups.until_settled(run.scenario.settle_seconds)
    load.connected.clear()
    await groups.until_settled(run.scenario.settle_seconds)
    await run.shop.delivery.stop_all()
    for stage, topic in (("validate", topics.INBOX), ("track", topics.EVENTS)):
        await _put_without_utf8(bootstrap, topic)
        await _drop_last(run, stage, f"{stage}: a header whose name is no UTF-8")
    packed = _producer(bootstrap, **_PACKED)
    await asyncio.to_thread(_put, "", packed, topics.EVENTS, b"x" * _UNPACKED_BYTES, None)
    await _drop_last(run, "track", "events: too large unpacked")
    await run.shop.delivery.start("hasty")
    load.connected.set()
    load.paused = False


async def _drop_last(run: Run, stage: str, name: str) -> None:
    """The last record of partition 0, which is the only one that the stage has not had."""
    end = await asyncio.to_thread(run.groups.end_of, stage, 0)
    await asyncio.to_thread(run.groups.set_offset, stage, 0, end)
    run.journal.add_poison(name, "", STAGES[stage], 0, end - 1)


async def _put_without_utf8(bootstrap: str, topic: str) -> None:
    """With kcat, because librdkafka's binding takes no such name."""
    command = ("kcat", "-P", "-b", bootstrap, "-t", topic, "-p", "0", "-H", b"\xff\xfe=1")
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    await process.communicate(b"unreadable\n")
    if process.returncode:
        raise FaultError(f"kcat ended with {process.returncode}")


def _put(
    name: str, producer: Producer, topic: str, value: bytes, headers: Headers | None
) -> tuple[str, str, str, int, int]:
    """Into partition 0. Name, no event id, topic, partition and offset. Raises FaultError where Kafka takes it not."""
    places: list[tuple[str, str, str, int, int]] = []
    producer.produce(
        topic,
        value,
        headers=headers,
        partition=0,
        on_delivery=lambda error, message: (
            None if error else places.append((name, "", topic, 0, message.offset()))
        ),
    )
    producer.flush(2 * _SECONDS)
    if not places:
        raise FaultError(f"Kafka did not take '{name}'")
    return places[0]


_PACKED = {
    "compression.type": "zstd",
    "message.max.bytes": 400_000_000,
    "queue.buffering.max.kbytes": 1_000_000,
}


def _producer(bootstrap: str, **more: object) -> Producer:
    settings = KafkaSettings(kafka_bootstrap=bootstrap, k_revision="poisoner")
    return Producer(producer_config(settings) | more)


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


SCENARIOS = [Scenario("poison", "every poison there is", poisoned, runs=len(POISONS) + _OTHERS, mends=True)]
