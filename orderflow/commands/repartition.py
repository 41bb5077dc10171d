"""`python -m orderflow.commands.repartition --from 64`: waits until the new partitions can be let in.

docs/how-to/add-partitions.md says when to run it.

It ends when every producer uses the new number of partitions, and every stage has handled the records that the old
partitions had by then. It changes nothing. It needs the audit's rights in Kafka.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderflow import settings, startup
from orderflow.adapters.kafka.log import Log, partition_of
from orderflow.adapters.kafka.producer import client_config
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.parked_event import TOPIC_OF
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from confluent_kafka import Message

_METADATA_SECONDS: Final = 300.0
"""The default time after which Kafka's clients ask for the number of partitions again (metadata.max.age.ms;
topic.metadata.refresh.interval.ms of librdkafka)."""
_PAUSE_SECONDS: Final = 0.5
_PROGRESS_SECONDS: Final = 10.0


class NotYetError(Exception):
    """If the new partitions were let in now, the events of some order could be handled out of sequence. The message
    names the cause."""


class PartitionCountError(Exception):
    """The topics' numbers of partitions do not fit each other or the old number."""


@dataclass(frozen=True, slots=True)
class PartitionCounts:
    old: int
    new: int

    def is_misplaced(self, message: Message) -> bool:
        """Whether the record is in a partition that only the old number gives for its key."""
        key, partition = message.key(), message.partition()
        if not isinstance(key, bytes) or partition is None:
            return False
        return partition_of(key, self.new) != partition


class Barrier:
    def __init__(self, log: Log, old: int, wait_seconds: float) -> None:
        """wait_seconds: how long a producer may use the old number after the topics have the new one."""
        self._log = log
        self._old = old
        self._wait_seconds = wait_seconds

    def partition_counts(self) -> PartitionCounts:
        """Raises PartitionCountError and TransientError.

        The new number must be a multiple of the old one. Then a key stays in its partition or moves to a new partition.
        Otherwise some keys would move from one old partition to another, where they could not be held back.
        """
        counts = {topic: len(self._log.offset_ranges(topic)) for topic in topics.ALL}
        new = counts[topics.INBOX]
        if set(counts.values()) != {new}:
            listing = ", ".join(f"{topic} {count}" for topic, count in counts.items())
            raise PartitionCountError(f"not all topics have the same number of partitions: {listing}")
        if new <= self._old or new % self._old:
            raise PartitionCountError(
                f"{new} partitions are no multiple of {self._old}: add partitions up to a multiple"
            )
        return PartitionCounts(self._old, new)

    def wait(self) -> Iterator[str]:
        """Yields one sentence of progress at each pause; ends when the new partitions can be let in.

        Raises NotYetError, PartitionCountError and TransientError.
        """
        counts = self.partition_counts()
        deadline = time.monotonic() + self._wait_seconds
        while (seconds := deadline - time.monotonic()) > 0:
            yield f"{seconds:.0f} s until every producer uses {counts.new} partitions"
            time.sleep(min(_PAUSE_SECONDS, seconds))
        ends = {topic: self._ends(topic) for topic in topics.ALL}
        while lags := {stage: lag for stage in TOPIC_OF if (lag := self._lag(stage, ends))}:
            yield "in old partitions: " + ", ".join(f"{stage} {lag}" for stage, lag in lags.items())
            time.sleep(_PAUSE_SECONDS)
        for topic in topics.ALL:
            self._check_placement(topic, ends[topic], counts)

    def _ends(self, topic: str) -> dict[int, int]:
        return self._log.ends(topic, range(self._old))

    def _lag(self, stage: str, ends: Mapping[str, Mapping[int, int]]) -> int:
        """How many records of the old partitions, up to these ends, the stage has not handled yet."""
        topic = TOPIC_OF[stage]
        ranges = self._log.offset_ranges(topic)
        committed = self._log.committed(topics.consumer_group(stage), topic, range(self._old))
        return sum(
            max(0, end - max(committed.get(partition, 0), ranges[partition].start))
            for partition, end in ends[topic].items()
        )

    def _check_placement(self, topic: str, ends: Mapping[int, int], counts: PartitionCounts) -> None:
        """Checks the records since `ends`. A record of a producer that still uses the old number is misplaced; such a
        producer has its own metadata.max.age or another partitioner."""
        current_ends = self._ends(topic)
        ranges = {partition: (end, current_ends[partition]) for partition, end in ends.items()}
        for batch in self._log.read(topic, ranges):
            for message in batch:
                if counts.is_misplaced(message):
                    place = f"{topic} partition {message.partition()} offset {message.offset()}"
                    raise NotYetError(
                        f"a producer still writes by {counts.old} partitions: {place} belongs to another partition"
                    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.commands.repartition",
        description="Waits until new partitions can be let in without breaking any order's sequence.",
        epilog="Exit code 0: let them in; 1: not yet, stderr has the reason, run it again;"
        " 2: wrong usage, bad settings, or the topics' numbers of partitions do not fit; 3: Kafka is away.",
    )
    parser.add_argument("--from", dest="old", type=int, required=True, help="number of partitions before")
    parser.add_argument(
        "--wait",
        type=float,
        default=_METADATA_SECONDS,
        help="seconds until every producer knows the new number (the longest metadata.max.age)",
    )
    add_option(parser)
    options = parser.parse_args(arguments)
    config = startup.or_exit(lambda: settings.load(settings.KafkaSettings))
    barrier = Barrier(Log(client_config(config)), options.old, options.wait)
    try:
        _print_progress(barrier.wait())
    except PartitionCountError as error:
        sys.stderr.write(f"repartition: {error}\n")
        return 2
    except NotYetError as error:
        sys.stderr.write(f"repartition: {error}\n")
        return 1
    except TransientError as error:
        sys.stderr.write(f"repartition: {error}; try again when it is back\n")
        return 3
    sys.stdout.write("the new partitions can be let in\n")
    return 0


def _print_progress(sentences: Iterator[str]) -> None:
    """Writes at most one sentence every _PROGRESS_SECONDS to stderr."""
    written_at = float("-inf")
    for sentence in sentences:
        if time.monotonic() - written_at >= _PROGRESS_SECONDS:
            written_at = time.monotonic()
            sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
