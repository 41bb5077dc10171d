"""Counts the records of a topic that one revision made: `python -m orderflow.query.clients.count_process`.

A process of its own, because librdkafka's binding ends the process at a header whose name is not UTF-8 (confluent-kafka
2.16.1). The request comes on standard input, the count goes to standard output.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel

from orderflow.adapters.kafka.log import Log, UnreadableError
from orderflow.errors import TransientError
from orderflow.messaging import topics

if TYPE_CHECKING:
    from confluent_kafka import Message

UNAVAILABLE: Final = 3
"""Exit code: Kafka does not answer."""
UNREADABLE: Final = 4
"""Exit code: one of the records cannot be read."""


class CountRequest(BaseModel):
    """config has librdkafka's properties. ranges are pairs of a first offset and the offset after the last."""

    config: dict[str, Any]
    topic: str
    revision: str
    ranges: dict[int, tuple[int, int]]


def count(request: CountRequest) -> int:
    """Raises TransientError, UnreadableError."""
    is_made_by = _is_parked_by if request.topic == topics.PARKED else _is_taken_by
    return sum(
        is_made_by(message, request.revision)
        for messages in Log(request.config).read(request.topic, request.ranges)
        for message in messages
    )


def _is_taken_by(message: Message, revision: str) -> bool:
    """Intake names its revision in the extension `takenby`."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return any(name.lower() == "ce_takenby" and value == revision.encode() for name, value in headers)


def _is_parked_by(message: Message, revision: str) -> bool:
    """A parked event names in its data the revision of the stage that parked it."""
    value = message.value() or b""
    if revision.encode() not in value:
        return False
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("revision") == revision


def main() -> int:
    request = CountRequest.model_validate_json(sys.stdin.buffer.read())
    try:
        sys.stdout.write(str(count(request)))
    except (UnreadableError, SystemError):
        return UNREADABLE
    except TransientError as error:
        sys.stdout.write(str(error))
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
