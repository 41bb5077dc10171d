"""Only the contiguous prefix is committed."""

from hypothesis import given
from hypothesis import strategies as st

from orderflow_sandbox.delivery.offsets import Offsets


def test_nothing_is_committed_before_something_is_done() -> None:
    offsets = Offsets()
    assert offsets.to_commit() is None
    offsets.received(7)
    assert offsets.to_commit() is None


def test_a_record_still_in_flight_holds_back_those_behind_it() -> None:
    offsets = Offsets()
    for offset in (7, 8, 9):
        offsets.received(offset)
    offsets.done(9)
    offsets.done(8)
    assert offsets.to_commit() is None
    offsets.done(7)
    assert offsets.to_commit() == 10


def test_what_is_committed_is_not_committed_again() -> None:
    offsets = Offsets()
    offsets.received(0)
    offsets.done(0)
    offsets.committed = offsets.to_commit()
    assert offsets.to_commit() is None


def test_a_gap_in_the_log_is_passed_once_a_later_record_has_come() -> None:
    """Measured against eventing-kafka-broker 0.50: only what is behind the last record stays uncommitted."""
    offsets = Offsets()
    offsets.received(0)
    offsets.done(0)
    assert offsets.to_commit() == 1
    offsets.received(3)
    assert offsets.to_commit() == 3
    offsets.done(3)
    assert offsets.to_commit() == 4


def test_a_gap_behind_a_record_that_is_not_done_is_not_passed() -> None:
    offsets = Offsets()
    for offset in (0, 2):
        offsets.received(offset)
    offsets.done(2)
    assert offsets.to_commit() is None
    offsets.done(0)
    assert offsets.to_commit() == 3


@given(st.permutations(range(8)), st.integers(0, 8))
def test_the_committed_offset_is_the_first_that_is_not_done(order: list[int], count: int) -> None:
    offsets = Offsets()
    for offset in range(8):
        offsets.received(offset)
    for offset in order[:count]:
        offsets.done(offset)
    undone = set(range(9)) - set(order[:count])
    assert (offsets.to_commit() or 0) == min(undone)
