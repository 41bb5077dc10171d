"""Gaps are read in parts that hold each of their offsets once."""

from hypothesis import given
from hypothesis import strategies as st

from orderflow.adapters.kafka.gap_process import Gap
from orderflow.adapters.kafka.gap_reader import _halves
from orderflow.adapters.kafka.gaps import parts, size


@st.composite
def gaps(draw: st.DrawFn) -> list[Gap]:
    found: list[Gap] = []
    for partition in range(draw(st.integers(1, 3))):
        end = 0
        for distance, length in draw(
            st.lists(st.tuples(st.integers(1, 900), st.integers(1, 30)), max_size=5)
        ):
            found.append(Gap(partition=partition, first=end + distance, end=end + distance + length))
            end += distance + length
    return found


def offsets(of: list[Gap]) -> list[tuple[int, int]]:
    return [(gap.partition, offset) for gap in of for offset in range(gap.first, gap.end)]


@given(gaps(), st.integers(1, 50))
def test_parts_hold_every_offset_once_in_sequence_and_none_is_too_large(
    all_gaps: list[Gap], most: int
) -> None:
    all_parts = list(parts(all_gaps, most))
    assert [each for part in all_parts for each in offsets(part)] == offsets(all_gaps)
    assert all(0 < size(part) <= most for part in all_parts)


@given(gaps().filter(bool))
def test_halving_ends_at_each_single_offset(all_gaps: list[Gap]) -> None:
    def leaves(of: list[Gap]) -> list[tuple[int, int]]:
        first, second = _halves(of)
        return leaves(first) + leaves(second) if second else offsets(first)

    assert leaves(all_gaps) == offsets(all_gaps)
