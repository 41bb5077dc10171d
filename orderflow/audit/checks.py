"""What the database says of the records of each topic. One check is asked about many records at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from orderflow.audit.kafka_record import Record, read
from orderflow.audit.report import Fate
from orderflow.domain.lifecycle import Outcome
from orderflow.errors import PoisonError
from orderflow.messaging import inbox_event, topics
from orderflow.notify import due

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.audit.kafka_record import Identity
    from orderflow.audit.store import AuditStore, Entry
    from orderflow.notify.settings import NotificationSettings

_FATES: Final = {
    Outcome.APPLIED: Fate.APPLIED,
    Outcome.WAITING: Fate.WAITING,
    Outcome.REFUSED: Fate.REFUSED,
    Outcome.PARKED: Fate.PARKED,
}


class Check(Protocol):
    """One topic. fates() never tells a record for missing of which anything is known."""

    topic: str
    stage: str

    async def fates(self, records: Sequence[Record]) -> list[Fate]: ...


class InboxCheck:
    """An inbox event is in the ledger under its own identity with its own content, or parked by validate or, after
    it, by track."""

    topic = topics.INBOX
    stage = "validate"

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def fates(self, records: Sequence[Record]) -> list[Fate]:
        identities = [identity(record) for record in records]
        entries = await self._store.ledger([each or ("", "") for each in identities])
        found = [
            _fate(record, entry if entry and entry.digest == _digest(record) else None)
            for record, entry in zip(records, entries, strict=True)
        ]
        _mark_repeated(identities, found)
        await _look_on_the_shelf(
            self._store, self.topic, records, found, lambda each: _and_validated(identity(each))
        )
        return found


class EventsCheck:
    """A validated event is in the ledger as what it came from, with the same content, or parked by track."""

    topic = topics.EVENTS
    stage = "track"

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def fates(self, records: Sequence[Record]) -> list[Fate]:
        origins = [(each.attribute("originsource"), each.attribute("originid")) for each in records]
        entries = await self._store.ledger(origins)
        found = [
            _fate(record, entry if entry and entry.digest == record.attribute("origindigest") else None)
            for record, entry in zip(records, entries, strict=True)
        ]
        _mark_repeated(origins, found)
        await _look_on_the_shelf(self._store, self.topic, records, found, lambda each: _alone(identity(each)))
        return found


class StatusCheck:
    """What a status event asks to be sent has been sent or has failed for good; or notify has parked it."""

    topic = topics.STATUS
    stage = "notify"

    def __init__(self, store: AuditStore, told: NotificationSettings, gone: frozenset[str]) -> None:
        """gone are the webhook endpoints that want nothing any more."""
        self._store = store
        self._told = told
        self._gone = gone

    async def fates(self, records: Sequence[Record]) -> list[Fate]:
        done = await self._store.notified([each[1] for record in records if (each := identity(record))])
        found = [
            Fate.DONE if (each := identity(record)) and each[1] in done else Fate.MISSING
            for record in records
        ]
        for place, record in enumerate(records):
            if found[place] is Fate.MISSING and not self._is_due(record):
                found[place] = Fate.DONE
        await _look_on_the_shelf(self._store, self.topic, records, found, lambda each: _alone(identity(each)))
        return found

    def _is_due(self, record: Record) -> bool:
        """An event that cannot be read is due: to be parked."""
        try:
            return due.is_due(read(record), self._gone, settings=self._told)
        except PoisonError:
            return True


class ParkedCheck:
    """A parked event, or what an operator did with one, is where operators see it."""

    topic = topics.PARKED
    stage = "shelve"

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def fates(self, records: Sequence[Record]) -> list[Fate]:
        done = await self._store.shelved([each[1] for record in records if (each := identity(record))])
        found = [
            Fate.DONE if (each := identity(record)) and each[1] in done else Fate.MISSING
            for record in records
        ]
        await _look_on_the_shelf(self._store, self.topic, records, found, lambda each: _alone(identity(each)))
        return found


def identity(record: Record) -> Identity | None:
    """Of the CloudEvent in either mode; None where there is none."""
    if not record.structured:
        return record.identity
    try:
        event = read(record)
    except PoisonError:
        return None
    return event.source, event.id


def _fate(record: Record, entry: Entry | None) -> Fate:
    """A record that is younger than its event's row in the ledger came after it: a duplicate."""
    if entry is None:
        return Fate.MISSING
    if entry.outcome in {Outcome.APPLIED, Outcome.REFUSED} and record.written_at > entry.recorded_at:
        return Fate.DUPLICATE
    return _FATES[entry.outcome]


def _digest(record: Record) -> str:
    """The content of an inbox event as the ledger tells it apart; empty for what validate would park."""
    try:
        return inbox_event.digest_of(read(record))
    except PoisonError:
        return ""


def _mark_repeated(identities: Sequence[Identity | None], found: list[Fate]) -> None:
    seen: set[Identity | None] = set()
    for place, each in enumerate(identities):
        if found[place] is not Fate.MISSING and each in seen:
            found[place] = Fate.DUPLICATE
        seen.add(each)


def _alone(each: Identity | None) -> list[Identity]:
    return [each] if each else []


def _and_validated(each: Identity | None) -> list[Identity]:
    """An inbox event's identity, and the one that validate gives it."""
    return [each, (inbox_event.VALIDATED_SOURCE, inbox_event.validated_id(*each))] if each else []


async def _look_on_the_shelf(
    store: AuditStore,
    topic: str,
    records: Sequence[Record],
    found: list[Fate],
    names: Callable[[Record], list[Identity]],
) -> None:
    """Makes PARKED of what is MISSING and lies on the shelf, by any of its names or by its place in the log."""
    open_places = [place for place, fate in enumerate(found) if fate is Fate.MISSING]
    if not open_places:
        return
    named = {place: names(records[place]) for place in open_places}
    by_name = await store.parked([each for several in named.values() for each in several])
    by_place = await store.parked_places(
        topic, [(records[at].partition, records[at].offset) for at in open_places]
    )
    for at in open_places:
        record = records[at]
        if by_name.intersection(named[at]) or (record.partition, record.offset) in by_place:
            found[at] = Fate.PARKED
