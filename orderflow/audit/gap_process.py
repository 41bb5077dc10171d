"""Reads records of a topic in a process of its own: `python -m orderflow.audit.gap_process`.

librdkafka's binding ends the process at a header whose name is not UTF-8 (confluent-kafka 2.16.1). So the audit reads
records where such an end costs nothing. The request comes as JSON on standard input, the records go as JSON to standard
output.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from orderflow.adapters.kafka.log import Log, UnreadableError
from orderflow.audit.kafka_record import KafkaRecord
from orderflow.errors import TransientError

UNAVAILABLE: Final = 3
"""Exit code: Kafka does not answer."""
UNREADABLE: Final = 4
"""Exit code: one of the records cannot be read."""


class Gap(BaseModel):
    """Offsets of a partition from first up to, without, end."""

    partition: int
    first: int
    end: int


class GapRequest(BaseModel):
    """config has librdkafka's properties."""

    config: dict[str, Any]
    topic: str
    gaps: list[Gap]
    with_headers: bool = True


class GapAnswer(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    records: list[KafkaRecord]


def read(request: GapRequest) -> GapAnswer:
    """The records of the gaps, by partition in the sequence of the log. Raises TransientError."""
    wanted: dict[int, list[Gap]] = {}
    for gap in request.gaps:
        wanted.setdefault(gap.partition, []).append(gap)
    spans = {
        partition: (min(gap.first for gap in gaps), max(gap.end for gap in gaps))
        for partition, gaps in wanted.items()
    }
    records = [
        KafkaRecord.of(message, with_headers=request.with_headers)
        for messages in Log(request.config).read(request.topic, spans)
        for message in messages
        if any(gap.first <= (message.offset() or 0) < gap.end for gap in wanted[message.partition() or 0])
    ]
    return GapAnswer(records=sorted(records, key=lambda record: (record.partition, record.offset)))


def main() -> int:
    request = GapRequest.model_validate_json(sys.stdin.buffer.read())
    try:
        answer = read(request)
    except SystemError:
        return UNREADABLE
    except TransientError as error:
        sys.stderr.write(str(error))
        return UNREADABLE if isinstance(error, UnreadableError) else UNAVAILABLE
    sys.stdout.buffer.write(answer.model_dump_json().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
