"""Whether two releases can share their topics: during a release the old and the new one run at the same time.

Compares two folders of schemas, and imports nothing else of Orderflow:

    read/<topic>/<type>.json      what the readers of the topic accept
    written/<topic>/<type>.json   what our stages write to it; without this file, others write the event, and may write
                                  whatever is accepted

The new release must read what the old one wrote, since it is still in the topics. The old release must read what the
new one writes, since both run at once and a rollback leaves the old one alone. Exit code 0: both hold; 1: not, and each
finding names the event and the place in it; 2: the folders cannot be compared.

With --readers-first only the first direction counts. That suffices where each stage is released completely before the
stage whose events it reads (notify before track, track before validate) and is not rolled back after that.

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
    """A folder has no schemas, or one that cannot be read; the message says which."""


@dataclass(frozen=True, slots=True)
class Release:
    """Schemas by `<topic>/<type>`."""

    read: dict[str, Schema]
    written: dict[str, Schema]

    def may_be_written(self) -> dict[str, Schema]:
        return self.read | self.written


@dataclass(frozen=True, slots=True)
class Break:
    """An event that one release writes and the other may refuse."""

    direction: str
    event: str
    finding: Finding

    def __str__(self) -> str:
        return f"{self.direction}: {self.event}: {self.finding}"


def load(folder: Path) -> Release:
    """Raises FoldersError where the folder has no schemas, or one that cannot be read."""
    read, written = (_schemas(folder / kind) for kind in ("read", "written"))
    if not read:
        raise FoldersError(f"{folder}: there are no schemas under read/")
    return Release(read, written)


def _schemas(folder: Path) -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for file in sorted(folder.glob("*/*.json")):
        try:
            schemas[f"{file.parent.name}/{file.stem}"] = json.loads(file.read_bytes())
        except ValueError:
            raise FoldersError(f"{file}: this is not JSON") from None
    return schemas


def breaks(old: Release, new: Release, *, readers_first: bool = False) -> list[Break]:
    """Raises FoldersError where a schema cannot be compared."""
    forward = list(_unreadable(FORWARD, old, new))
    return forward if readers_first else [*forward, *_unreadable(BACKWARD, new, old)]


def _unreadable(direction: str, producer: Release, consumer: Release) -> Iterator[Break]:
    for event, schema in producer.may_be_written().items():
        accepted = consumer.read.get(event)
        if accepted is None:
            yield Break(direction, event, Finding("", "no event of this type is read from this topic"))
            continue
        try:
            findings = excess(schema, accepted)
        except NotUnderstoodError as error:
            raise FoldersError(f"{event}: this cannot be compared: {error}") from None
        yield from (Break(direction, event, finding) for finding in findings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.contracts.compatibility",
        description="Whether two releases can share their topics, by the schemas of their events.",
    )
    parser.add_argument("old", type=Path, help="the old release's folder of schemas")
    parser.add_argument("new", type=Path, help="the new release's folder")
    parser.add_argument(
        "--readers-first",
        action="store_true",
        help="each stage is released before the one that it reads from",
    )
    options = parser.parse_args(arguments)
    try:
        old, new = load(options.old), load(options.new)
        incompatible = breaks(old, new, readers_first=options.readers_first)
    except FoldersError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for each in incompatible:
        sys.stdout.write(f"{each}\n")
    events = len(old.may_be_written().keys() | new.may_be_written().keys())
    directions = "from old to new" if options.readers_first else "both ways"
    verdict = f"incompatible in {len(incompatible)} places" if incompatible else f"compatible {directions}"
    sys.stdout.write(f"{events} events compared: {verdict}\n")
    return 1 if incompatible else 0


if __name__ == "__main__":
    sys.exit(main())
