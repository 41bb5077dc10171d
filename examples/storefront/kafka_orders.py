"""Hands the orders of an outbox over as CloudEvents in Kafka: `python kafka_orders.py FOLDER`.

KAFKA_BOOTSTRAP is host:port of a broker, PATIENCE the seconds after which it gives up.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloudevents.http import CloudEvent
from cloudevents.kafka import to_binary
from confluent_kafka import Producer

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

INBOX = "orders.inbox.v1"


def placed(file: Path) -> CloudEvent:
    """The event's id is the file's name: the same after a restart. The SDK makes the record's key of partitionkey."""
    order_id = file.stem
    attributes = {
        "type": "dev.orderflow.order.placed.v1",
        "source": "/shop/example",
        "id": order_id,
        "subject": order_id,
        "partitionkey": order_id,
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, json.loads(file.read_bytes()))


def main(outbox: Path) -> int:
    (outbox / "sent").mkdir(exist_ok=True)
    patience = float(os.environ.get("PATIENCE", "120"))
    producer = Producer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"],
            # The client repeats by itself; idempotent, it neither doubles nor reorders.
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": int(patience * 1000),
        }
    )
    failed: list[str] = []

    def confirmed(file: Path, error: KafkaError | None) -> None:
        """A file leaves the outbox only when all in-sync replicas have its order."""
        if error is None:
            file.rename(outbox / "sent" / file.name)
        else:
            failed.append(f"{file.stem}: Kafka did not confirm ({error.name()}); it stays in the outbox")

    for file in sorted(outbox.glob("*.json")):
        record = to_binary(placed(file))

        def answered(error: KafkaError | None, _message: Message, file: Path = file) -> None:
            confirmed(file, error)

        producer.produce(
            INBOX, record.value, record.key, headers=list(record.headers.items()), on_delivery=answered
        )
        producer.poll(0)
    producer.flush()
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or "KAFKA_BOOTSTRAP" not in os.environ:  # noqa: PLR2004 - the program and its argument
        sys.exit("usage: KAFKA_BOOTSTRAP=HOST:PORT python kafka_orders.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
