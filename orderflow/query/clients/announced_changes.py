"""Whether the changes that a revision of track wrote are announced: each must have its status event in the topic.

The history is read first: a change that it shows is announced within moments, or comes again. Whoever announces it, the
status event has the same id.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orderflow.domain.release_analysis import Invariant
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.status_event import status_event_id
from orderflow.query.clients import topic_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from orderflow.query.clients.topic_records import TopicRecords

NAME: Final = "changes_without_a_status_event"
MAX_CHANGES: Final = 500
_SECONDS: Final = 15.0
_EARLIER: Final = timedelta(seconds=5)
"""By how much the clocks of database and brokers may differ."""
_READ_AT_ONCE: Final = 1000
_MAX_READ: Final = 50_000


class AnnouncedChanges:
    def __init__(self, records: TopicRecords) -> None:
        self._records = records

    def invariants(self, changes: Sequence[tuple[str, str]], since: datetime | None) -> list[Invariant]:
        """changes: (source, id) of the events that the revision applied; since: when the first of them was written.

        Raises TransientError where the topic cannot be read now.
        """
        missing = {status_event_id(source, event_id) for source, event_id in changes}
        if missing and since is not None:
            asyncio.run(self._remove_found(missing, since - _EARLIER))
        return [Invariant(NAME, len(missing))]

    async def _remove_found(self, missing: set[str], since: datetime) -> None:
        try:
            async with asyncio.timeout(_SECONDS), self._records.reader() as reader:
                ranges = await self._records.ranges_since(topics.STATUS, since)
                read = 0
                while ranges and missing:
                    records, ranges = await topic_records.oldest(reader, topics.STATUS, ranges, _READ_AT_ONCE)
                    missing -= {record.attribute("id") for record in records}
                    read += len(records)
                    if read > _MAX_READ:
                        raise TransientError("the status topic has too many records to look for all changes")
        except TimeoutError:
            raise TransientError(f"the status topic was not read within {_SECONDS:g} s") from None
