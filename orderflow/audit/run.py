"""One run of the audit: every topic by its places, then the changes that were never announced."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

from orderflow.audit.announcements import Announcements
from orderflow.audit.checks import EventsCheck, InboxCheck, ParkedCheck, StatusCheck
from orderflow.audit.consumer_lag import ConsumerLag
from orderflow.audit.repairs import RateLimiter, Repairs
from orderflow.audit.report import Report
from orderflow.audit.topic_audit import Tools, TopicAudit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.adapters.kafka.gap_reader import GapReader
    from orderflow.adapters.kafka.log import Log
    from orderflow.audit.checks import Check, HasDueNotification
    from orderflow.audit.repairs import ParkedEvents
    from orderflow.audit.store import AuditStore
    from orderflow.messaging.handled_places import Store
    from orderflow.messaging.publisher import Publisher

AuditRun: TypeAlias = "Callable[[], Awaitable[Report | None]]"
"""One run of the audit; None where another run is under way. Raises TransientError."""


_ANSWER_TIME: Final = timedelta(minutes=15)
"""For how long a replay may have no outcome while no stage is behind."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """grace is the age from which a record is judged. max_duration is how long a run may read; the next run continues
    from there."""

    grace: timedelta
    settle_seconds: float
    max_duration: timedelta
    republish_per_second: int
    revision: str


class Audit:
    """An Audit is for one run: its store holds the lock that excludes other runs."""

    def __init__(
        self,
        *,
        log: Log,
        reader: GapReader,
        store: AuditStore,
        places: Store,
        publisher: Publisher,
        parked_events: ParkedEvents,
        sweep: Callable[[], Awaitable[int]],
        has_due_notification: HasDueNotification,
        options: AuditOptions,
    ) -> None:
        """sweep parks events that have waited too long, and returns how many it parked."""
        self._store = store
        self._sweep = sweep
        self._has_due_notification = has_due_notification
        self._options = options
        self._report = Report(str(uuid4()), datetime.now(UTC))
        limiter = RateLimiter(options.republish_per_second)
        consumer_lag = ConsumerLag(log, options.settle_seconds)
        self._tools = Tools(
            log=log,
            store=store,
            places=places,
            reader=reader,
            repairs=Repairs(store, publisher, parked_events, limiter, options.revision),
            consumer_lag=consumer_lag,
            grace=options.grace,
            settle_seconds=options.settle_seconds,
            deadline=time.monotonic() + options.max_duration.total_seconds(),
        )
        self._announcements = Announcements(
            store, places, publisher, limiter, consumer_lag, has_due_notification
        )

    async def run(self) -> Report:
        """Raises TransientError where Kafka or the database is unavailable. The run's row then stays `running`, and
        the next run judges again what this one has not saved."""
        report = self._report
        if killed := await self._store.begin(report):
            report.notes.append(f"earlier runs that did not come to their end: {killed}")
        report.waits_expired = await self._expire_waits()
        disabled_endpoints = await self._store.disabled_endpoints()
        # Topics downstream first: if track lost a validated event, its inbox event is not missing too.
        checks: list[Check] = [
            ParkedCheck(self._store),
            StatusCheck(self._store, self._has_due_notification, disabled_endpoints),
            EventsCheck(self._store),
            InboxCheck(self._store),
        ]
        for check in checks:
            await TopicAudit(check, self._tools, report).run()
        report.topics = {check.topic: report.topics[check.topic] for check in reversed(checks)}
        await self._announcements.repair(
            report, datetime.now(UTC), self._options.settle_seconds, self._tools.deadline
        )
        if not report.behind:
            await self._reopen_unanswered_replays()
        report.finished_at = datetime.now(UTC)
        await self._store.end(report)
        return report

    async def _reopen_unanswered_replays(self) -> None:
        if parked_ids := await self._store.reopen(_ANSWER_TIME):
            minutes = _ANSWER_TIME // timedelta(minutes=1)
            self._report.notes.append(
                f"{len(parked_ids)} replays have had no outcome for {minutes} minutes; "
                "their parked events are open again"
            )

    async def _expire_waits(self) -> int:
        expired = 0
        while parked := await self._sweep():
            expired += parked
        return expired
