"""Digests of an event's content: whether two events say the same."""

from __future__ import annotations

from typing import NamedTuple


class Digests(NamedTuple):
    """The digests of one content.

    origin covers the content as the release that read it writes it, with all defaults. content covers what was sent,
    without defaults, and begins with the version of its form; it is empty for what an older release wrote.
    """

    origin: str
    content: str = ""

    def same_content(self, other: Digests) -> bool:
        """By content where both have one in the same form, otherwise by origin."""
        form, other_form = (each.content.partition(":")[0] for each in (self, other))
        if form and form == other_form:
            return self.content == other.content
        return self.origin == other.origin
