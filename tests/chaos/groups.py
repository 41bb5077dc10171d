"""How far the stages have come, read from Kafka, because the process that delivers may be dead."""

import asyncio
import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from orderflow.adapters.kafka.log import Log, committed_offsets
from orderflow.errors import TransientError
from orderflow.messaging import topics
from tests.chaos.errors import NotSettledError

STAGES = {
    "validate": topics.INBOX,
    "track": topics.EVENTS,
    "notify": topics.STATUS,
    "shelve": topics.PARKED,
}
"""In the order of the way: a stage that is at its end after the one before it was, has had everything."""
_SECONDS = 10.0
_LOOK_SECONDS = 0.25
_FEW = 50


class Groups:
    def __init__(self, bootstrap: str) -> None:
        self._config = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500}
        self._admin = AdminClient(self._config)
        self._log = Log(self._config)

    def lag(self, stage: str) -> int:
        """Records of the stage's topic that its group has not confirmed. Raises KafkaException, TransientError.

        A group never confirms the marker of a transaction at the end of a log, because no record follows it. So where
        few offsets are left, the records at them are counted.
        """
        topic = STAGES[stage]
        ends = self._ends(topic)
        committed = self._committed(stage, list(ends))
        behind = {p: (first, end) for p, end in ends.items() if (first := max(committed.get(p, 0), 0)) < end}
        offsets = sum(end - first for first, end in behind.values())
        stable = {p: each.end for p, each in self._log.offset_ranges(topic).items()} if behind else {}
        if offsets > _FEW or any(end > stable[p] for p, (_, end) in behind.items()):
            return offsets
        return sum(len(messages) for messages in self._log.read(topic, behind)) if behind else 0

    def _ends(self, topic: str) -> dict[int, int]:
        partitions = self._admin.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
        requests = self._admin.list_offsets(
            {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions},
            request_timeout=_SECONDS,
        )
        return {place.partition: answer.result(_SECONDS).offset for place, answer in requests.items()}

    def _committed(self, stage: str, partitions: list[int]) -> dict[int, int]:
        group = f"orderflow-{stage}"
        places = [(STAGES[stage], partition) for partition in partitions]
        offsets = committed_offsets(self._config, group, places)
        return {partition: offset for (_, partition), offset in offsets.items()}

    def lags(self) -> dict[str, int]:
        return {stage: self.lag(stage) for stage in STAGES}

    def records(self) -> int:
        """In all the stages' topics."""
        return sum(sum(self._ends(topic).values()) for topic in STAGES.values())

    def rewind(self) -> None:
        """To the beginning of every topic; nobody may be a member of the groups."""
        for stage, topic in STAGES.items():
            places = [TopicPartition(topic, partition, 0) for partition in self._ends(topic)]
            requests = self._admin.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(f"orderflow-{stage}", places)], request_timeout=_SECONDS
            )
            for answer in requests.values():
                answer.result(_SECONDS)

    def set_offset(self, stage: str, partition: int, offset: int) -> None:
        """Nobody may be a member of the group."""
        place = TopicPartition(STAGES[stage], partition, offset)
        request = ConsumerGroupTopicPartitions(f"orderflow-{stage}", [place])
        for answer in self._admin.alter_consumer_group_offsets([request], request_timeout=_SECONDS).values():
            answer.result(_SECONDS)

    def end_of(self, stage: str, partition: int) -> int:
        """Raises KafkaException where Kafka does not answer in time. A broker that has just started is asked again."""
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                return self._ends(STAGES[stage])[partition]
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_SECONDS)

    def committed_by(self, stage: str) -> dict[int, int]:
        return self._committed(stage, list(self._ends(STAGES[stage])))

    async def until_settled(self, seconds: float) -> None:
        """Until every stage has had all there is. Raises NotSettledError, with the lag of each stage."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                lags = await asyncio.to_thread(self.lags)
            except KafkaException as error:
                lags = {error.args[0].name(): 1}
            except TransientError as error:
                lags = {str(error): 1}
            if not any(lags.values()):
                return
            if asyncio.get_running_loop().time() > deadline:
                backlog = ", ".join(f"{stage} {lag}" for stage, lag in lags.items() if lag)
                raise NotSettledError(f"still to be handled after {seconds:g} s: {backlog}")
            await asyncio.sleep(_LOOK_SECONDS)
