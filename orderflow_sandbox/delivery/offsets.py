"""Which offset of a partition may be committed: the end of what is done without a gap.

A gap in the log itself (compaction, transaction markers) is never done, so the committed offset
stays before it and a restart redelivers everything behind it. That is what the data plane does.
"""

from __future__ import annotations


class Offsets:
    """Starts at the first offset received, as the data plane's tracker does."""

    __slots__ = ("_beyond", "committed", "next")

    def __init__(self) -> None:
        self._beyond: set[int] = set()
        self.next: int | None = None
        self.committed: int | None = None

    def received(self, offset: int) -> None:
        if self.next is None:
            self.next = self.committed = offset

    def done(self, offset: int) -> None:
        if offset != self.next:
            self._beyond.add(offset)
            return
        after = offset + 1
        while after in self._beyond:
            self._beyond.remove(after)
            after += 1
        self.next = after

    def to_commit(self) -> int | None:
        """The offset to commit, None where that is known to be committed already."""
        return self.next if self.next != self.committed else None
