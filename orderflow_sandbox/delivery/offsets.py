"""The offset of a partition that may be committed: everything before it is done.

Offsets that the log does not have (compaction, transaction markers, records of aborted transactions) count as done once
a later record of the partition has been received. So only what is behind the last record stays uncommitted.
"""

from __future__ import annotations


class Offsets:
    """Starts at the first offset that is received, as the data plane's tracker does."""

    __slots__ = ("_done_later", "_last", "committed", "next")

    def __init__(self) -> None:
        self._done_later: set[int] = set()
        self._last: int | None = None
        self.next: int | None = None
        self.committed: int | None = None

    def received(self, offset: int) -> None:
        """Offsets of a partition are received in their sequence."""
        if self._last is None:
            self.next = self.committed = offset
        else:
            for missing in range(self._last + 1, offset):
                self.done(missing)
        self._last = offset

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
