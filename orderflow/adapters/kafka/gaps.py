"""Gaps: offsets that no stage has recorded as handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.adapters.kafka.gap_process import Gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_NEAR: Final = 500
"""Gaps of a partition with fewer offsets between them are read in one go: to begin anew costs more than to read on."""


def size(gaps: Iterable[Gap]) -> int:
    return sum(gap.end - gap.first for gap in gaps)


def parts(gaps: Sequence[Gap], most: int) -> Iterator[list[Gap]]:
    """The gaps in parts that can be read at once: `most` offsets or fewer, and near each other in each partition.

    The gaps of one partition stay in sequence.
    """
    part: list[Gap] = []
    count = 0
    last_end: dict[int, int] = {}
    for gap in gaps:
        first = gap.first
        while first < gap.end:
            is_far = first - last_end.get(gap.partition, first) > _NEAR
            if count == most or is_far:
                yield part
                part, count, last_end = [], 0, {}
            end = min(gap.end, first + most - count)
            part.append(Gap(partition=gap.partition, first=first, end=end))
            count += end - first
            last_end[gap.partition] = first = end
    if part:
        yield part
