"""Can two releases share their topics? While a release goes on, the old and the new run at once.

Compares two folders of schemas and imports nothing of Orderflow but that comparison:

    read/<topic>/<type>.json      what the readers of a topic take
    written/<topic>/<type>.json   what its writers write; where it is missing, others write it, and may write
                                  whatever is taken

Whatever the old release writes the new one must be able to read, for it is in the topics; and whatever the new one
writes the old one must, for it runs beside it and may come back after a rollback. Exit code 0: both hold; 1: they do
not, each finding says for which event and where; 2: the folders cannot be compared.

With --readers-first only the first counts: that is enough where each stage is released whole before the one whose
events it reads, notify before track and track before validate, and none goes back once the next has begun.

    python -m orderflow.contracts.compatibility OLD NEW
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow.contracts.subset import Finding, NotUnderstoodError, excess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderflow.contracts.subset import Schema

FORWARD: Final = "old producer -> new consumer"
BACKWARD: Final = "new producer -> old consumer"


class FoldersError(Exception):
    """There is nothing to compare, or it cannot be read; the message says what."""


@dataclass(frozen=True, slots=True)
class Release:
    """Schemas by `<topic>/<type>`."""

    read: dict[str, Schema]
    written: dict[str, Schema]

    def may_be_written(self) -> dict[str, Schema]:
        return self.read | self.written


@dataclass(frozen=True, slots=True)
class Break:
    """An event that one of the two releases writes and the other may refuse."""

    direction: str
    event: str
    finding: Finding

    def __str__(self) -> str:
        return f"{self.direction}: {self.event}: {self.finding}"


def load(folder: Path) -> Release:
    """Raises FoldersError where there are no schemas, or one cannot be read."""
    read, written = (_schemas(folder / kind) for kind in ("read", "written"))
    if not read:
        raise FoldersError(f"{folder}: there are no schemas under read/")
    return Release(read, written)


def _schemas(folder: Path) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for file in sorted(folder.glob("*/*.json")):
        try:
            found[f"{file.parent.name}/{file.stem}"] = json.loads(file.read_bytes())
        except ValueError:
            raise FoldersError(f"{file}: this is no JSON") from None
    return found


def breaks(old: Release, new: Release, *, readers_first: bool = False) -> list[Break]:
    """Raises FoldersError where a schema has what cannot be compared."""
    found = list(_unreadable(FORWARD, old, new))
    return found if readers_first else [*found, *_unreadable(BACKWARD, new, old)]


def _unreadable(direction: str, producer: Release, consumer: Release) -> Iterator[Break]:
    for event, schema in producer.may_be_written().items():
        taken = consumer.read.get(event)
        if taken is None:
            yield Break(direction, event, Finding("", "no event of this type is read from this topic"))
            continue
        try:
            findings = excess(schema, taken)
        except NotUnderstoodError as error:
            raise FoldersError(f"{event}: this cannot be compared: {error}") from None
        yield from (Break(direction, event, finding) for finding in findings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.contracts.compatibility",
        description="Whether two releases can share their topics, by the schemas of their events.",
    )
    parser.add_argument("old", type=Path, help="the old release's folder of schemas")
    parser.add_argument("new", type=Path, help="the new one's")
    parser.add_argument(
        "--readers-first",
        action="store_true",
        help="each stage is released before the one that it reads from",
    )
    given = parser.parse_args(arguments)
    try:
        old, new = load(given.old), load(given.new)
        found = breaks(old, new, readers_first=given.readers_first)
    except FoldersError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for each in found:
        sys.stdout.write(f"{each}\n")
    events = len(old.may_be_written().keys() | new.may_be_written().keys())
    ways = "from old to new" if given.readers_first else "both ways"
    verdict = f"incompatible in {len(found)} places" if found else f"compatible {ways}"
    sys.stdout.write(f"{events} events compared: {verdict}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
