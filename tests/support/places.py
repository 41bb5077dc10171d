"""Handled places that no database keeps, and topics whose ids nobody knows."""

from collections.abc import Sequence

from orderflow.messaging.handled_places import HandledPlaces, Log


class PlacesStore:
    """Keeps what is written, as ranges by log."""

    def __init__(self) -> None:
        self.ranges: dict[Log, list[tuple[int, int]]] = {}

    async def watch(self) -> None:
        pass

    async def add(self, ranges: Sequence[tuple[Log, Sequence[tuple[int, int]]]]) -> None:
        for log, pairs in ranges:
            self.ranges.setdefault(log, []).extend(pairs)


def places() -> HandledPlaces:
    return HandledPlaces(PlacesStore())


class NoTopicIds:
    async def id_of(self, topic: str) -> str:
        return ""
