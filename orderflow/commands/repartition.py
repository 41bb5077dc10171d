"""`python -m orderflow.commands.repartition --from 64`: says when the new partitions can be let in (docs/scaling.md).

Ends when every producer goes by the new number of partitions and every stage has taken what lies in the old ones as
it was meant by the old number. It changes nothing and needs the audit's rights.
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
from orderflow.audit.consumer_lag import GROUP
from orderflow.errors import UnavailableError
from orderflow.messaging import topics
from orderflow.messaging.parked_event import TOPIC_OF
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from confluent_kafka import Message

_METADATA_SECONDS: Final = 300.0
"""After so long Kafka's clients ask again how many partitions there are (metadata.max.age.ms; librdkafka's
topic.metadata.refresh.interval.ms), unless they are told otherwise."""
_PAUSE_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 10.0


class NotYetError(Exception):
    """Letting the new partitions in now would break some order's sequence; the message says why."""


class WrongNumberError(Exception):
    """The topics' partitions are not what this is for."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of partitions, before and after."""

    old: int
    new: int

    def strays(self, message: Message) -> bool:
        """Whether a record lies where only the old number puts it."""
        key, partition = message.key(), message.partition()
        if not isinstance(key, bytes) or partition is None:
            return False
        return partition_of(key, self.new) != partition


class Barrier:
    def __init__(self, log: Log, old: int, wait_seconds: float) -> None:
        """wait_seconds is how long a producer may go by the old number after the topics have the new one."""
        self._log = log
        self._old = old
        self._wait_seconds = wait_seconds

    def numbers(self) -> Numbers:
        """Raises WrongNumberError, UnavailableError.

        Only with a multiple a key either stays where it is or moves to a new partition; else keys would move from
        one old partition to another, and could not be told from those that stay.
        """
        found = {topic: len(self._log.offset_ranges(topic)) for topic in topics.ALL}
        new = found[topics.INBOX]
        if set(found.values()) != {new}:
            told = ", ".join(f"{topic} {number}" for topic, number in found.items())
            raise WrongNumberError(f"not all topics have the same number of partitions: {told}")
        if new <= self._old or new % self._old:
            raise WrongNumberError(f"{new} partitions are no multiple of {self._old}: add up to one")
        return Numbers(self._old, new)

    def waits(self) -> Iterator[str]:
        """Yields what it waits for; ends when the new partitions can be let in.

        Raises NotYetError, WrongNumberError, UnavailableError."""
        numbers = self.numbers()
        until = time.monotonic() + self._wait_seconds
        while (left := until - time.monotonic()) > 0:
            yield f"{left:.0f} s until every producer goes by {numbers.new} partitions"
            time.sleep(min(_PAUSE_SECONDS, left))
        ends = {topic: self._ends(topic) for topic in topics.ALL}
        while behind := {stage: left for stage in TOPIC_OF if (left := self._left(stage, ends))}:
            yield "in old partitions: " + ", ".join(f"{stage} {left}" for stage, left in behind.items())
            time.sleep(_PAUSE_SECONDS)
        for topic in topics.ALL:
            self._check(topic, ends[topic], numbers)

    def _ends(self, topic: str) -> dict[int, int]:
        return self._log.ends(topic, range(self._old))

    def _left(self, stage: str, ends: Mapping[str, Mapping[int, int]]) -> int:
        """How many records of the old partitions the stage has still to take."""
        topic = TOPIC_OF[stage]
        ranges = self._log.offset_ranges(topic)
        committed = self._log.committed(GROUP.format(stage=stage), topic, range(self._old))
        return sum(
            max(0, end - max(committed.get(partition, 0), ranges[partition].start))
            for partition, end in ends[topic].items()
        )

    def _check(self, topic: str, ends: Mapping[int, int], numbers: Numbers) -> None:
        """Whoever still goes by the old number has written since: a metadata.max.age of its own, or another
        partitioner."""
        now = self._ends(topic)
        ranges = {partition: (end, now[partition]) for partition, end in ends.items()}
        for batch in self._log.read(topic, ranges):
            for message in batch:
                if numbers.strays(message):
                    place = f"{topic} partition {message.partition()} offset {message.offset()}"
                    raise NotYetError(
                        f"somebody still writes by {numbers.old} partitions: {place} belongs into another"
                    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.commands.repartition",
        description="Waits until new partitions can be let in without breaking any order's sequence.",
        epilog="Exit code 0: let them in; 1: not yet, the reason is told, run it again;"
        " 2: wrong usage, bad settings, or the topics' partitions are not as they must be; 3: Kafka is away.",
    )
    parser.add_argument("--from", dest="old", type=int, required=True, help="partitions before")
    parser.add_argument(
        "--wait",
        type=float,
        default=_METADATA_SECONDS,
        help="seconds after which every producer has asked anew (the longest metadata.max.age)",
    )
    add_option(parser)
    given = parser.parse_args(arguments)
    config = startup.or_exit(lambda: settings.load(settings.KafkaSettings))
    barrier = Barrier(Log(client_config(config)), given.old, given.wait)
    try:
        _tell(barrier.waits())
    except WrongNumberError as error:
        sys.stderr.write(f"repartition: {error}\n")
        return 2
    except NotYetError as error:
        sys.stderr.write(f"repartition: {error}\n")
        return 1
    except UnavailableError as error:
        sys.stderr.write(f"repartition: {error}; try again when it is back\n")
        return 3
    sys.stdout.write("the new partitions can be let in\n")
    return 0


def _tell(waits: Iterator[str]) -> None:
    told = float("-inf")
    for sentence in waits:
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
