"""The offset of a partition that may be committed: everything before it is done.

Offsets that the log does not have (compaction, transaction markers) are never done. So the committed offset stays
before such a gap, and a restart redelivers everything after it. The data plane does the same.
"""

from __future__ import annotations


class Offsets:
    """Starts at the first offset that is received, as the data plane's tracker does."""

    __slots__ = ("_done_later", "committed", "next")

    def __init__(self) -> None:
        self._done_later: set[int] = set()
        self.next: int | None = None
        self.committed: int | None = None

    def received(self, offset: int) -> None:
        if self.next is None:
            self.next = self.committed = offset

    def done(self, offset: int) -> None:
        if offset != self.next:
            self._done_later.add(offset)
            return
        after = offset + 1
        while after in self._done_later:
            self._done_later.remove(after)
            after += 1
        self.next = after

    def to_commit(self) -> int | None:
        """The offset to commit; None where it is committed already."""
        return self.next if self.next != self.committed else None
