"""`python -m orderflow.commands.resume [--set]`: from which offset each consumer group has to read again.

After a restore of the database (docs/how-to/backup.md), the groups are further than the database. The places that the
database has as handled say where each group has to go on, so that no event is lost and each order's events come in
sequence. Without --set nothing is changed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from orderflow import settings, startup
from orderflow.adapters.kafka.log import Log
from orderflow.adapters.kafka.producer import client_config
from orderflow.adapters.postgres.schema import check_schema
from orderflow.audit.store import AuditStore
from orderflow.errors import TransientError
from orderflow.messaging.parked_event import TOPIC_OF
from orderflow.messaging.topics import consumer_group
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Sequence

_REQUEST_SECONDS = 30.0
_NOT_POSSIBLE = 3


class ResumeSettings(settings.DatabaseSettings, settings.KafkaSettings):
    pass


class GroupInUseError(Exception):
    """The group has members: its sources still run. The message names it."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """committed is the group's offset, None where it has none. resume is the first offset that is not handled."""

    stage: str
    topic: str
    partition: int
    committed: int | None
    resume: int

    @property
    def moves(self) -> bool:
        return self.committed is not None and self.resume < self.committed


async def resume_points(store: AuditStore, log: Log) -> list[ResumePoint]:
    """Of every partition of every topic. Raises TransientError."""
    points: list[ResumePoint] = []
    for stage, topic in TOPIC_OF.items():
        topic_log = await asyncio.to_thread(log.describe, topic)
        partitions = topic_log.partitions
        committed = await asyncio.to_thread(log.committed, consumer_group(stage), topic, list(partitions))
        ranges = {
            p: (each.start, max(each.start, committed.get(p, each.start))) for p, each in partitions.items()
        }
        gaps = await store.gaps(stage, topic_log.topic_id, ranges)
        first_gap = {gap.partition: gap.first for gap in reversed(gaps)}
        points += [
            ResumePoint(stage, topic, partition, committed.get(partition), first_gap.get(partition, end))
            for partition, (_, end) in ranges.items()
        ]
    return points


def set_offsets(admin: AdminClient, points: Sequence[ResumePoint]) -> None:
    """Moves the groups back. Raises GroupInUseError, TransientError."""
    for stage in dict.fromkeys(point.stage for point in points):
        places = [
            TopicPartition(each.topic, each.partition, each.resume) for each in points if each.stage == stage
        ]
        request = ConsumerGroupTopicPartitions(consumer_group(stage), places)
        future = admin.alter_consumer_group_offsets([request], request_timeout=_REQUEST_SECONDS)[
            request.group_id
        ]
        try:
            answer = future.result()
        except KafkaException as error:
            raise TransientError(f"Kafka does not answer: {error.args[0].name()}") from None
        errors = {place.error.name() for place in answer.topic_partitions or [] if place.error is not None}
        if "UNKNOWN_MEMBER_ID" in errors:
            raise GroupInUseError(
                f"{request.group_id} is in use: stop the KafkaSource of {stage} first (consumers: 0), then try again"
            )
        if errors:
            raise TransientError(f"Kafka did not move {request.group_id}: {', '.join(sorted(errors))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.commands.resume",
        description="Shows from which offset each consumer group has to read again after a restore of the database.",
        epilog="Exit code 0: shown or set. 2: bad settings. 3: not possible; the message says why.",
    )
    parser.add_argument(
        "--set", action="store_true", help="move the groups there; their KafkaSources must be stopped"
    )
    add_option(parser)
    options = parser.parse_args(arguments)
    config, kafka = startup.or_exit(_configure)
    try:
        points = asyncio.run(_points(config, Log(kafka)))
        moving = [point for point in points if point.moves]
        sys.stdout.write(table(points))
        if options.set and moving:
            set_offsets(AdminClient(kafka), moving)
            sys.stdout.write(f"{len(moving)} offsets set; start the sources again\n")
        elif moving:
            sys.stdout.write("nothing was changed; --set moves the groups\n")
        elif options.set:
            sys.stdout.write("nothing was set: no group is further than the database\n")
    except (TransientError, GroupInUseError) as error:
        sys.stderr.write(f"resume: {error}\n")
        return _NOT_POSSIBLE
    return 0


def _configure() -> tuple[ResumeSettings, dict[str, Any]]:
    """The settings, and librdkafka's properties. Raises BadSettingsError, SchemaOutdatedError."""
    config = settings.load_with_session(ResumeSettings)
    kafka = client_config(config)
    check_schema(config)
    return config, kafka


async def _points(config: ResumeSettings, log: Log) -> list[ResumePoint]:
    async with AuditStore.open(config) as store:
        if store is None:
            raise TransientError(
                "a run of the audit or of this command is under way; try again when it has ended"
            )
        return await resume_points(store, log)


def table(points: Sequence[ResumePoint]) -> str:
    """The partitions whose group has to go back; one line for each stage that has none."""
    lines = [f"{'stage':<9} {'topic':<17} {'partition':>9} {'committed':>12} {'resume at':>12} {'again':>9}"]
    for stage in dict.fromkeys(point.stage for point in points):
        moving = [point for point in points if point.stage == stage and point.moves]
        lines += [
            f"{stage:<9} {each.topic:<17} {each.partition:>9} {each.committed:>12,} {each.resume:>12,} "
            f"{(each.committed or 0) - each.resume:>9,}"
            for each in moving
        ]
        if not moving:
            lines.append(f"{stage:<9} {TOPIC_OF[stage]:<17} nothing to read again")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
