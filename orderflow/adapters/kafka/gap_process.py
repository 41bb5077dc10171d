"""Reads records of a topic in a process of its own: `python -m orderflow.adapters.kafka.gap_process`.

librdkafka's binding ends the process at a header whose name is not UTF-8 (confluent-kafka 2.16.1). So the audit reads
records where such an end costs nothing. Requests come on standard input, answers go to standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Final

from pydantic import BaseModel, ConfigDict

from orderflow.adapters.kafka.kafka_record import KafkaRecord
from orderflow.adapters.kafka.log import Log, UnreadableError
from orderflow.errors import TransientError

UNAVAILABLE: Final = 3
"""Code of an answer: Kafka does not answer."""
UNREADABLE: Final = 4
"""Code of an answer: one of the records cannot be read, or they are too large to be read at once."""
MAX_BYTES: Final = 32 * 1024 * 1024


class TooMuchError(Exception):
    pass


class Gap(BaseModel):
    """Offsets of a partition from first up to, without, end."""

    partition: int
    first: int
    end: int


class GapRequest(BaseModel):
    topic: str
    gaps: list[Gap]
    with_headers: bool = True


class GapAnswer(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    records: list[KafkaRecord]


def read(log: Log, request: GapRequest) -> GapAnswer:
    """The records of the gaps, by partition in the sequence of the log. Raises TransientError, TooMuchError."""
    wanted: dict[int, list[Gap]] = {}
    for gap in request.gaps:
        wanted.setdefault(gap.partition, []).append(gap)
    spans = {
        partition: (min(gap.first for gap in gaps), max(gap.end for gap in gaps))
        for partition, gaps in wanted.items()
    }
    records: list[KafkaRecord] = []
    total_bytes = 0
    for messages in log.read(request.topic, spans):
        for message in messages:
            gaps = wanted[message.partition() or 0]
            if any(gap.first <= (message.offset() or 0) < gap.end for gap in gaps):
                records.append(KafkaRecord.of(message, with_headers=request.with_headers))
                total_bytes += len(message)
        if total_bytes > MAX_BYTES and len(records) > 1:
            raise TooMuchError("fewer records have to be read at once")
    return GapAnswer(records=sorted(records, key=lambda record: (record.partition, record.offset)))


def main() -> int:
    """Answers requests until its input ends. The first line has librdkafka's properties, each further line a request.
    An answer is a line with its code and the length of what follows: the records, or the error's text."""
    log = Log(json.loads(sys.stdin.buffer.readline()))
    for line in sys.stdin.buffer:
        code, output = _answer(log, GapRequest.model_validate_json(line))
        sys.stdout.buffer.write(b"%d %d\n" % (code, len(output)) + output)
        sys.stdout.buffer.flush()
    return 0


def _answer(log: Log, request: GapRequest) -> tuple[int, bytes]:
    try:
        return 0, read(log, request).model_dump_json().encode()
    except (UnreadableError, TooMuchError) as error:
        return UNREADABLE, str(error).encode()
    except SystemError as error:
        return UNREADABLE, type(error).__name__.encode()
    except TransientError as error:
        return UNAVAILABLE, str(error).encode()


if __name__ == "__main__":
    sys.exit(main())
