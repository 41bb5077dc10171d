"""The intervals in which a release is counted."""

from orderflow.query.store.release_evidence import interval_of

A_WEEK = 7 * 24 * 120


def test_intervals_follow_each_other_without_a_gap_and_stay_as_they_are() -> None:
    number, lengths = 0, []
    while number < A_WEEK:
        first, end = interval_of(number)
        assert first == number
        assert {interval_of(each) for each in range(first, end)} == {(first, end)}
        lengths.append(end - first)
        number = end
    assert lengths == sorted(lengths)
    assert set(lengths[:120]) == {1}
    assert len(lengths) < 600
