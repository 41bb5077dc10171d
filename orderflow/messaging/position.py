"""The position of an event among its source's events of one order, and what is overtaken."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from orderflow.messaging.places import FIRST_PLACE, INBOX_PLACE, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Any, Protocol, Self

    class Positioned(Protocol):
        """An event as in_sequence() needs it."""

        @property
        def position(self) -> Position: ...
        @property
        def occurred_at(self) -> datetime: ...
        @property
        def source(self) -> str: ...
        @property
        def id(self) -> str: ...


E = TypeVar("E", bound="Positioned")

_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Position:
    """Where an event belongs.

    place is that of the event's first record in the inbox. sequence is the producer's number of the event (CloudEvents
    extension `sequence`). latecomer: the event was published again, by the audit or by an operator. unchecked: an
    operator decided that the event takes effect now, whatever came before.
    """

    place: Place | None = None
    sequence: int | None = None
    latecomer: bool = False
    unchecked: bool = False

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> Self:
        """The position that an event of the events topic has by its extensions.

        A replay without a first place has no place: its own record lies behind everything that it may have missed.
        """
        sequence = whole_number(extensions.get("sequence", ""))
        first_place = Place.parse(extensions.get(FIRST_PLACE, ""))
        if first_place is not None:
            return cls(first_place, sequence, latecomer=True)
        if "replay" in extensions:
            return cls(None, sequence, latecomer=True, unchecked=True)
        return cls(Place.parse(extensions.get(INBOX_PLACE, "")), sequence)


@dataclass(frozen=True, slots=True)
class Decided:
    """The highest place and the highest sequence among those events of one order and source that were decided."""

    place: Place | None = None
    sequence: int | None = None

    def including(self, position: Position) -> Decided:
        sequences = [each for each in (self.sequence, position.sequence) if each is not None]
        return Decided(self._higher_place(position), max(sequences, default=None))

    def _higher_place(self, position: Position) -> Place | None:
        if self.place is None or position.place is None:
            return self.place or position.place
        if self.place.topic_id != position.place.topic_id:
            return self.place if position.latecomer else position.place
        return max(self.place, position.place, key=_log_order)

    def overtakes(self, position: Position) -> Literal["sequence", "place", ""]:
        """By what a later event than the one at this position was decided; empty where none was, or where the two
        cannot be compared.

        In one partition, offsets tell. A higher partition is later only for an event that was published again: the
        number of partitions only grows by multiples, so an order that moves always moves to a higher partition. An
        event that is not published again comes in its partition's sequence, and a producer that sends without keys may
        have put it into any partition. The offsets of two topics, such as a topic that was deleted and created anew,
        say nothing of each other.
        """
        if position.unchecked:
            return ""
        if position.sequence is not None and self.sequence is not None and position.sequence != self.sequence:
            return "sequence" if position.sequence < self.sequence else ""
        place, highest = position.place, self.place
        if place is None or highest is None or place.topic_id != highest.topic_id:
            return ""
        if place.partition == highest.partition:
            return "place" if place.offset < highest.offset else ""
        return "place" if position.latecomer and place.partition < highest.partition else ""

    def to_json(self) -> dict[str, Any]:
        return {"place": str(self.place) if self.place else None, "sequence": self.sequence}

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Self:
        return cls(Place.parse(members.get("place") or ""), members.get("sequence"))


def whole_number(sequence: str) -> int | None:
    """None where the text is no whole number that a bigint holds."""
    return int(sequence) if _WHOLE_NUMBER.fullmatch(sequence) else None


def in_sequence(events: Iterable[E], group: Callable[[E], Hashable] = lambda event: event.source) -> list[E]:
    """The events of one group by their positions; between groups, always the earliest of the next events by time.

    In one group, the events of one partition follow by offset, and those of several partitions by time. Events that
    have a sequence then change places among themselves until they follow by sequence.
    """
    groups: dict[Hashable, list[E]] = {}
    for event in events:
        groups.setdefault(group(event), []).append(event)
    return _merged([_group_in_sequence(each) for each in groups.values()])


def _group_in_sequence(events: Sequence[E]) -> list[E]:
    if len(events) == 1:
        return list(events)
    partitions: dict[tuple[str, int] | None, list[E]] = {}
    for event in events:
        place = event.position.place
        partitions.setdefault((place.topic_id, place.partition) if place else None, []).append(event)
    by_place = _merged([sorted(each, key=_order_in_partition) for each in partitions.values()])
    numbered = iter(sorted(filter(_has_sequence, by_place), key=_sequence))
    return [next(numbered) if _has_sequence(event) else event for event in by_place]


def _merged(runs: Sequence[Sequence[E]]) -> list[E]:
    """Always takes the earliest of the runs' next events. The sequence of each run stays."""
    heads = [(_order_between_runs(run[0]), number, 0) for number, run in enumerate(runs)]
    heapq.heapify(heads)
    merged = []
    while heads:
        _, number, index = heads[0]
        run = runs[number]
        merged.append(run[index])
        if index + 1 < len(run):
            heapq.heapreplace(heads, (_order_between_runs(run[index + 1]), number, index + 1))
        else:
            heapq.heappop(heads)
    return merged


def _order_between_runs(event: Positioned) -> tuple[datetime, str, int, str]:
    """Events of the same moment: by source, then the lower partition first, which is the older one."""
    place = event.position.place
    return event.occurred_at, event.source, place.partition if place else -1, event.id


def _order_in_partition(event: Positioned) -> tuple[int, datetime, str]:
    place = event.position.place
    return place.offset if place else 0, event.occurred_at, event.id


def _has_sequence(event: Positioned) -> bool:
    return event.position.sequence is not None


def _sequence(event: Positioned) -> int:
    return event.position.sequence or 0


def _log_order(place: Place) -> tuple[int, int]:
    return place.partition, place.offset
