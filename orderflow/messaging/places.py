"""Places: where a record lies in the log of a topic. The audit accounts for every record by its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

INBOX_PLACE: Final = "inboxplace"
"""Extension of an event that validate made: the place of the inbox record that it came from."""
FIRST_PLACE: Final = "firstplace"
"""Extension of an inbox event that was published again (by the audit, a replay or an edit), and of what validate made
of it: the place of its first record, which says where it belongs in the sequence of its order's events."""
OWN_EXTENSIONS: Final = (INBOX_PLACE, FIRST_PLACE, "replay")
"""The extensions that only our own stages set."""

_TEXT: Final = re.compile(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,9}):([0-9]{1,18})")
_PARTITION: Final = re.compile(r"[0-9]{1,9}")
_OFFSET: Final = re.compile(r"[0-9]{1,18}")


class TopicIds(Protocol):
    """The ids of topics. Kafka gives a topic that is deleted and created anew another id."""

    async def id_of(self, topic: str) -> str:
        """Empty where Kafka has not said yet; it never raises."""


@dataclass(frozen=True, slots=True)
class Place:
    topic_id: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """As an extension's value: `topic id:partition:offset`."""
        return f"{self.topic_id}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None where the text is no place."""
        match = _TEXT.fullmatch(text)
        return cls(match[1], int(match[2]), int(match[3])) if match else None

    @classmethod
    def of_delivery(cls, attributes: Mapping[str, str], topic_id: str) -> Self | None:
        """The place that KafkaSource names in an event's extensions. None where it names none, or where the topic's id
        is not known."""
        partition = attributes.get("knativekafkapartition", "")
        offset = attributes.get("knativekafkaoffset", "")
        if not topic_id or not _PARTITION.fullmatch(partition) or not _OFFSET.fullmatch(offset):
            return None
        return cls(topic_id, int(partition), int(offset))
