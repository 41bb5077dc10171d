"""The status of a topic's records, as the database knows it. One check covers many records at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from orderflow.adapters.kafka.kafka_record import KafkaRecord, identity, read
from orderflow.audit.report import RecordStatus
from orderflow.domain.digests import Digests
from orderflow.domain.lifecycle import Outcome
from orderflow.errors import PoisonError
from orderflow.messaging import inbox_event, topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.kafka.kafka_record import Identity
    from orderflow.audit.store import AuditStore, LedgerEntry
    from orderflow.messaging.cloudevent import CloudEvent

_STATUSES: Final = {
    Outcome.APPLIED: RecordStatus.APPLIED,
    Outcome.WAITING: RecordStatus.WAITING,
    Outcome.REFUSED: RecordStatus.REFUSED,
    Outcome.PARKED: RecordStatus.PARKED,
}


class Check(Protocol):
    """The check of one topic, which stage reads. statuses() reports MISSING only when the database knows nothing about
    the record."""

    topic: str
    stage: str

    async def statuses(self, records: Sequence[KafkaRecord], topic_id: str) -> list[RecordStatus]: ...


class InboxCheck:
    """An inbox event is in the ledger under its own identity with its own content, or parked by validate or, once
    validated, by track."""

    topic = topics.INBOX
    stage = "validate"

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def statuses(self, records: Sequence[KafkaRecord], topic_id: str) -> list[RecordStatus]:
        events = [_event(record) for record in records]
        entries = await self._store.ledger([(each.source, each.id) if each else ("", "") for each in events])
        replays = await self._store.replays(records)
        statuses = [
            _ledger_status(record, replay, entry, _digests(event)) if event else RecordStatus.MISSING
            for record, event, replay, entry in zip(records, events, replays, entries, strict=True)
        ]
        _mark_duplicates([identity(record) for record in records], statuses)
        await _mark_parked(self._store, topic_id, records, statuses)
        await self._mark_parked_by_track(events, statuses)
        return statuses

    async def _mark_parked_by_track(
        self, events: Sequence[CloudEvent | None], statuses: list[RecordStatus]
    ) -> None:
        """Track parks the validated event, which has another identity and another payload than the inbox event."""
        missing = [
            (index, event, digests)
            for index, event in enumerate(events)
            if event and statuses[index] is RecordStatus.MISSING and (digests := _digests(event)).origin
        ]
        if missing:
            parked = await self._store.parked_by_track([(event, digests) for _, event, digests in missing])
            for (index, _, _), is_parked in zip(missing, parked, strict=True):
                if is_parked:
                    statuses[index] = RecordStatus.PARKED


class EventsCheck:
    """A validated event is in the ledger under the identity of its inbox event, with the same content, or parked by
    track."""

    topic = topics.EVENTS
    stage = "track"

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def statuses(self, records: Sequence[KafkaRecord], topic_id: str) -> list[RecordStatus]:
        events = [_event(record) for record in records]
        origins = [(each.attribute("originsource"), each.attribute("originid")) for each in records]
        entries = await self._store.ledger(origins)
        replays = await self._store.replays(records)
        statuses = [
            _ledger_status(record, replay, entry, _origin_digests(record)) if event else RecordStatus.MISSING
            for record, event, replay, entry in zip(records, events, replays, entries, strict=True)
        ]
        _mark_duplicates(origins, statuses)
        await _mark_parked(self._store, topic_id, records, statuses)
        return statuses


class HasDueNotification(Protocol):
    """Whether notify sends anything for a status event, other than to disabled webhook endpoints."""

    def __call__(self, event: CloudEvent, disabled_endpoints: frozenset[str], /) -> bool:
        """Raises PoisonError where the event is not a status event."""


class StatusCheck:
    """Every notification of a status event was sent or failed for good, or notify has parked the event."""

    topic = topics.STATUS
    stage = "notify"

    def __init__(
        self, store: AuditStore, has_due_notification: HasDueNotification, disabled_endpoints: frozenset[str]
    ) -> None:
        self._store = store
        self._has_due_notification = has_due_notification
        self._disabled_endpoints = disabled_endpoints

    async def statuses(self, records: Sequence[KafkaRecord], topic_id: str) -> list[RecordStatus]:
        statuses = _done_or_missing(records, await self._store.notified(_ids(records)))
        for index, record in enumerate(records):
            if statuses[index] is RecordStatus.MISSING and not self._is_due(record):
                statuses[index] = RecordStatus.DONE
        await _mark_parked(self._store, topic_id, records, statuses)
        return statuses

    def _is_due(self, record: KafkaRecord) -> bool:
        """True for an event that cannot be read: notify has to park it."""
        try:
            return self._has_due_notification(read(record), self._disabled_endpoints)
        except PoisonError:
            return True


class ParkedCheck:
    """A parked event, or an operator's action on one, is stored where operators see it."""

    topic = topics.PARKED
    stage = "shelve"

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def statuses(self, records: Sequence[KafkaRecord], topic_id: str) -> list[RecordStatus]:
        statuses = _done_or_missing(records, await self._store.shelved(_ids(records)))
        await _mark_parked(self._store, topic_id, records, statuses)
        return statuses


def _ids(records: Sequence[KafkaRecord]) -> list[str]:
    return [each[1] for record in records if (each := identity(record))]


def _done_or_missing(records: Sequence[KafkaRecord], done_ids: set[str]) -> list[RecordStatus]:
    return [
        RecordStatus.DONE if (each := identity(record)) and each[1] in done_ids else RecordStatus.MISSING
        for record in records
    ]


def _event(record: KafkaRecord) -> CloudEvent | None:
    try:
        return read(record)
    except PoisonError:
        return None


def _ledger_status(
    record: KafkaRecord, replay: str, entry: LedgerEntry | None, digests: Digests
) -> RecordStatus:
    """The status of an event by the ledger's entry of its identity. replay is the operators' action that sent the
    event, empty where none did.

    An entry of another content says nothing about the event. A replay is decided where the entry names it; an event
    that has taken effect or waits needs no replay. A record that is younger than its event's entry was written after
    the event took effect, so it is a duplicate.
    """
    if entry is None or not (
        digests.same_content(entry.digests) or entry.former_digests.intersection(filter(None, digests))
    ):
        return RecordStatus.MISSING
    if entry.outcome in {Outcome.PARKED, Outcome.REFUSED} and replay and replay not in entry.replays:
        return RecordStatus.MISSING
    if entry.outcome in {Outcome.APPLIED, Outcome.REFUSED} and record.written_at > entry.recorded_at:
        return RecordStatus.DUPLICATE
    return _STATUSES[entry.outcome]


def _digests(event: CloudEvent) -> Digests:
    """The digests by which the ledger tells contents apart. Empty for an event that validate would park."""
    try:
        return inbox_event.digests_of(event)
    except PoisonError:
        return Digests("")


def _origin_digests(record: KafkaRecord) -> Digests:
    """Those that validate gave the event."""
    return Digests(record.attribute("origindigest"), record.attribute("contentdigest"))


def _mark_duplicates(identities: Sequence[Identity | None], statuses: list[RecordStatus]) -> None:
    """A record that is not missing is a duplicate where an earlier record has the same identity."""
    seen: set[Identity | None] = set()
    for index, each in enumerate(identities):
        if statuses[index] is not RecordStatus.MISSING and each in seen:
            statuses[index] = RecordStatus.DUPLICATE
        seen.add(each)


async def _mark_parked(
    store: AuditStore, topic_id: str, records: Sequence[KafkaRecord], statuses: list[RecordStatus]
) -> None:
    """Changes MISSING to PARKED where the database has the record as a parked event: by its place, or by its identity
    and payload. A replay is parked where it was parked again."""
    missing = [index for index, status in enumerate(statuses) if status is RecordStatus.MISSING]
    if missing:
        parked = await store.parked(topic_id, [records[index] for index in missing])
        for index, is_parked in zip(missing, parked, strict=True):
            if is_parked:
                statuses[index] = RecordStatus.PARKED
