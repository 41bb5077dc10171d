"""The choice of a sample in which rare outcomes are not rare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class InStratum(Protocol):
    @property
    def stratum(self) -> str: ...


T = TypeVar("T", bound=InStratum)


def choose(items: Iterable[T], size: int) -> list[T]:
    """Takes one item of each stratum in turn, in the sequence of the items, until there are `size` or no more are left.

    So each stratum gets an equal share, and what it does not need goes to the others.
    """
    strata: dict[str, list[T]] = {}
    for item in items:
        strata.setdefault(item.stratum, []).append(item)
    chosen: list[T] = []
    turn = 0
    while len(chosen) < size and any(len(each) > turn for each in strata.values()):
        chosen += [each[turn] for each in strata.values() if len(each) > turn]
        turn += 1
    return chosen[:size]
