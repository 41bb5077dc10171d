"""What happened to a log is told by its offsets, its leader's epoch and its checkpoints, and never guessed."""

from datetime import UTC, datetime

import pytest

from orderflow.adapters.kafka.log import OffsetRange
from orderflow.audit.log_changes import KnownLog, checkpoints_of, start_of

NOW = datetime(2026, 11, 29, tzinfo=UTC)
KNOWN = KnownLog(
    "id", 0, judged=100, log_end=120, leader_epoch=4, checkpoints=((50, "a"), (99, "b")), seen_at=NOW
)


@pytest.mark.parametrize(
    ("seen", "same_until", "first", "forget", "lost", "unknown"),
    [
        pytest.param(OffsetRange(0, 130, 4), 100, 100, None, None, False, id="goes on"),
        pytest.param(OffsetRange(110, 130, 4), None, 110, None, (100, 110), False, id="retention took a gap"),
        pytest.param(OffsetRange(0, 130, 5), 100, 100, 100, None, False, id="another leader, the same log"),
        pytest.param(OffsetRange(0, 90, 5), 51, 51, 51, (51, 120), True, id="cut"),
        pytest.param(OffsetRange(0, 500, 5), 51, 51, 51, (51, 120), True, id="cut and grown again"),
        pytest.param(OffsetRange(0, 500, 4), None, 0, 0, (0, 120), True, id="nothing of it is the same"),
        pytest.param(
            OffsetRange(60, 90, 5), None, 60, 60, (60, 120), True, id="cut, and retention took the rest"
        ),
    ],
)
def test_where_a_run_begins(
    seen: OffsetRange,
    same_until: int | None,
    first: int,
    forget: int | None,
    lost: tuple[int, int] | None,
    unknown: bool,
) -> None:
    start = start_of("here", KNOWN, seen, same_until)
    assert (start.first, start.forget, start.lost, start.unknown) == (first, forget, lost, unknown)
    assert bool(start.notes) is unknown


def test_the_first_run_begins_where_the_log_does_and_says_so() -> None:
    start = start_of("here", None, OffsetRange(7, 9), None)
    assert (start.first, start.unknown) == (7, False)
    assert start.notes == ["here: the first audit begins at 7; earlier records cannot be judged"]


def test_checkpoints_of_a_log_that_was_cut_are_forgotten() -> None:
    start = start_of("here", KNOWN, OffsetRange(0, 90, 5), 51)
    assert checkpoints_of(KNOWN, start, {80: "c"}) == ((50, "a"), (80, "c"))
