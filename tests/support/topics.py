"""Reading topics in tests."""

import time
import uuid
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from orderflow.messaging.cloudevent import CloudEvent

DEADLINE_SECONDS = 20


class Tap:
    """Reads topics from their beginning. It joins no group, which would take seconds.

    places has the partition and offset of each event in seen.
    """

    def __init__(self, bootstrap: str, *topics: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"tap-{uuid.uuid4()}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        known = self._consumer.list_topics(timeout=DEADLINE_SECONDS).topics
        places = [(topic, partition) for topic in topics for partition in known[topic].partitions]
        self._consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
        self.seen: list[tuple[str, CloudEvent]] = []
        self.places: list[tuple[int, int]] = []

    def close(self) -> None:
        self._consumer.close()

    def read_to_end(self) -> None:
        """Reads all that is in the topics at this moment, however slow the machine is."""
        places = self._consumer.assignment()
        deadline = time.monotonic() + DEADLINE_SECONDS
        ends = self._ends(places, deadline)
        while any(
            max(each.offset, 0) < ends[each.topic, each.partition] for each in self._consumer.position(places)
        ):
            assert time.monotonic() < deadline, "a topic was not read to its end in time"
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                self._keep(message)

    def _keep(self, message: Message) -> None:
        self.seen.append((message.topic() or "", read(message)))
        self.places.append((message.partition() or 0, message.offset() or 0))

    def _ends(self, places: list[TopicPartition], deadline: float) -> dict[tuple[str, int], int]:
        """By topic and partition. The admin client is used because requests of the consumer wait behind its fetches."""
        latest = {TopicPartition(place.topic, place.partition): OffsetSpec.latest() for place in places}
        while True:
            try:
                requests = self._admin.list_offsets(latest, request_timeout=5)
                return {(each.topic, each.partition): end.result(10).offset for each, end in requests.items()}
            except KafkaException:
                # A broker that was short of breath has another term as leader, which only new metadata tells.
                if time.monotonic() > deadline:
                    raise
                self._admin.list_topics(timeout=5)

    def until(self, matches: Callable[[str, CloudEvent], bool], how_many: int = 1) -> list[CloudEvent]:
        """The first events of any topic read so far or yet to come that are wanted; fails after a deadline."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            events = [event for topic, event in self.seen if matches(topic, event)]
            if len(events) >= how_many:
                return events
            assert time.monotonic() < deadline, f"only {len(events)} of {how_many} events came"
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                self._keep(message)


def read(message: Message) -> CloudEvent:
    """A record in binary mode as an envelope."""
    headers = {name: value.decode() for name, value in message.headers() or [] if isinstance(value, bytes)}
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
    named = {name: attributes.pop(name, "") for name in ("type", "source", "id", "subject", "time")}
    attributes.pop("specversion", None)
    return CloudEvent(**named, data=message.value() or b"", extensions=attributes)
