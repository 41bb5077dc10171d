"""What happened to a partition's log since the last run: nothing, or it was made anew, cut, or shortened by retention.
What the audit cannot know is named and never guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orderflow.adapters.kafka.log import OffsetRange

MAX_CHECKPOINTS: Final = 50


@dataclass(frozen=True, slots=True)
class KnownLog:
    """What the last run knew of a partition's log. Below judged, every offset is accounted for. checkpoints are pairs
    of an offset and the digest of its record, the newest last."""

    topic_id: str
    partition: int
    judged: int
    log_end: int
    leader_epoch: int | None
    checkpoints: tuple[tuple[int, str], ...]
    seen_at: datetime


@dataclass(slots=True)
class Start:
    """Where a run begins in a partition.

    forget: the places from this offset on are not those of this log, or may not be, and are looked at again. lost is
    the range of offsets of which no record is left to judge. unknown: records may have existed of which nothing is
    known.
    """

    first: int
    forget: int | None = None
    lost: tuple[int, int] | None = None
    unknown: bool = False
    notes: list[str] = field(default_factory=list)


def start_of(where: str, known: KnownLog | None, seen: OffsetRange, same_until: int | None) -> Start:
    """where names the partition in notes. same_until is the offset up to which checkpoints show that the log is still
    the same, None where no checkpoint says anything."""
    if known is None:
        start = Start(seen.start)
        if seen.start > 0:
            start.notes.append(
                f"{where}: the first audit begins at {seen.start}; earlier records cannot be judged"
            )
        return start
    start = Start(known.judged)
    confirmed = seen.start if same_until is None else same_until
    newest = known.checkpoints[-1][0] + 1 if known.checkpoints else None
    was_cut = seen.end < known.log_end or (newest is not None and newest > seen.start and confirmed < newest)
    if was_cut or seen.leader_epoch != known.leader_epoch:
        start.forget = confirmed
        start.first = min(start.first, confirmed)
    if was_cut:
        start.unknown = True
        start.lost = (confirmed, known.log_end)
        start.notes.append(
            f"{where}: the log was cut; from {confirmed} on it is another one, and what it had there before "
            "cannot be judged"
        )
    if seen.start > start.first:
        start.lost = (start.first, max(seen.start, start.lost[1] if start.lost else 0))
        start.first = seen.start
    return start


def checkpoints_of(
    known: KnownLog | None, start: Start, digests: Mapping[int, str]
) -> tuple[tuple[int, str], ...]:
    """The checkpoints to keep: those of before that still hold, and those of this run (digest by offset)."""
    kept = {
        offset: digest
        for offset, digest in (known.checkpoints if known else ())
        if start.forget is None or offset < start.forget
    }
    return tuple(sorted((kept | dict(digests)).items())[-MAX_CHECKPOINTS:])
