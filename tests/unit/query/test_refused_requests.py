"""What the requests that a revision refused are counted from: the counters of its pods."""

from datetime import UTC, datetime

from orderflow.domain.release_analysis import Count
from orderflow.query.clients.prometheus import Series
from orderflow.query.clients.refused_requests import _grown

SINCE = datetime(2026, 11, 29, 12, tzinfo=UTC)
START = SINCE.timestamp()


def counter(status: str, *samples: tuple[int, float]) -> Series:
    """samples are (interval, value)."""
    return Series({"http_response_status_code": status}, [(START + 30 * n, value) for n, value in samples])


def test_what_a_pod_had_answered_before_the_release_does_not_count() -> None:
    series = [counter("202", (0, 100), (1, 110)), counter("400", (0, 50), (1, 52))]
    assert _grown(series, SINCE, 30) == {1: Count(2, 12)}


def test_a_counter_that_is_born_in_the_release_counts_with_its_first_value() -> None:
    series = [counter("202", (0, 0), (1, 5)), counter("403", (1, 9), (2, 9))]
    assert _grown(series, SINCE, 30) == {1: Count(9, 14)}


def test_pods_are_added_up_and_one_that_is_gone_takes_nothing_away() -> None:
    series = [counter("202", (0, 10), (1, 30)), counter("202", (0, 0), (1, 4), (2, 8))]
    assert _grown(series, SINCE, 30) == {1: Count(0, 24), 2: Count(0, 4)}


def test_a_counter_that_begins_again_counts_from_nothing() -> None:
    assert _grown([counter("202", (0, 10), (1, 12), (2, 3), (3, 5))], SINCE, 30) == {
        1: Count(0, 2),
        2: Count(0, 3),
        3: Count(0, 2),
    }
