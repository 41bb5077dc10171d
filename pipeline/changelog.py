"""CHANGELOG.md as Keep a Changelog wants it: what is not released yet, and its turning into a release."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import date

CATEGORIES: Final = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
_UNRELEASED: Final = re.compile(r"^## \[Unreleased\][ \t]*\n", re.MULTILINE)
_NEXT: Final = re.compile(r"^## ", re.MULTILINE)


class ChangelogError(Exception):
    """The message says what is wrong with the file, or missing in it."""


@dataclass(frozen=True, slots=True)
class Changelog:
    """A file in three parts: up to the heading of what is not released, what is not, and the releases."""

    head: str
    unreleased: str
    releases: str

    @property
    def entries(self) -> int:
        return len(re.findall(r"^- ", self.unreleased, re.MULTILINE))

    def released(self, version: str, day: date) -> str:
        """The file with what was not released under the version, and nothing above it."""
        return f"{self.head}\n## [{version}] - {day:%Y-%m-%d}\n{self.unreleased}{self.releases}"


def read(text: str) -> Changelog:
    """Raises ChangelogError."""
    heading = _UNRELEASED.search(text)
    if heading is None:
        raise ChangelogError('there is no heading "## [Unreleased]"')
    end = _NEXT.search(text, heading.end())
    at = end.start() if end else len(text)
    return Changelog(text[: heading.end()], text[heading.end() : at], text[at:])


def check(log: Changelog, version: str) -> None:
    """May this become that version? Raises ChangelogError."""
    if not log.entries:
        raise ChangelogError('"Unreleased" has no entry: say what changed for those who use it')
    for category in re.findall(r"^### (.*?)\s*$", log.unreleased, re.MULTILINE):
        if category not in CATEGORIES:
            raise ChangelogError(f'"### {category}" is none of {", ".join(CATEGORIES)}')
    if re.search(rf"^## \[{re.escape(version)}\]", log.releases, re.MULTILINE):
        raise ChangelogError(f"there is a heading for {version} already")
