"""The generated scenarios, and those of a replayed file."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orderflow_sandbox import replay
from orderflow_sandbox.address import SandboxError
from orderflow_sandbox.messages import OrderScenario
from orderflow_sandbox.scenarios import order_scenarios

START = datetime(2026, 11, 23, tzinfo=UTC)
HEADER = "order_id,status,purchased,approved,shipped,delivered\n"


def read(tmp_path: Path, text: str) -> list[OrderScenario]:
    file = tmp_path / "orders.csv"
    file.write_text(text)
    return replay.read(file)


def test_a_seed_gives_the_same_scenarios_again_and_every_kind_of_them() -> None:
    once, again = (list(order_scenarios(60, 7, "o", START)) for _ in range(2))
    assert once == again
    names = {scenario.name for scenario in once}
    assert {
        "everything twice",
        "out of order",
        "cancelled",
        "held for review",
        "no CloudEvent at all",
    } <= names
    assert len({scenario.order_id for scenario in once}) == 60


@pytest.mark.parametrize(
    ("line", "ends", "parks"),
    [
        (
            "a,delivered,2017-10-02T10:00Z,2017-10-02T11:00Z,2017-10-03T11:00Z,2017-10-04T11:00Z",
            ("delivered", "paid"),
            0,
        ),
        ("a,shipped,2017-10-02T10:00Z,2017-10-04T11:00Z,2017-10-03T11:00Z,", ("shipped", "paid"), 0),
        ("a,canceled,2017-10-02T10:00Z,,,", ("cancelled", "unpaid"), 0),
        ("a,canceled,2017-10-02T10:00Z,2017-10-02T11:00Z,2017-10-03T11:00Z,", ("shipped", "paid"), 1),
        ("a,unavailable,2017-10-02T10:00Z,2017-10-02T11:00Z,,", ("cancelled", "paid"), 0),
        ("a,processing,2017-10-02T10:00Z,2017-10-02T11:00Z,,", ("accepted", "paid"), 0),
        ("a,created,2017-10-02T10:00Z,,,", ("accepted", "unpaid"), 0),
    ],
)
def test_each_line_of_the_file_says_where_its_order_must_end(
    line: str, ends: tuple[str, str], parks: int, tmp_path: Path
) -> None:
    (scenario,) = read(tmp_path, HEADER + line + "\n")
    assert (scenario.end, scenario.parked) == (ends, parks)


async def test_what_happened_is_sent_in_the_order_in_which_it_happened(tmp_path: Path) -> None:
    text = HEADER + "a,delivered,2017-10-02T10:00Z,2017-10-05T11:00Z,2017-10-03T11:00Z,2017-10-04T11:00Z\n"
    sent = [message.event async for message in replay.by_time(read(tmp_path, text), 0)]
    assert [event.id for event in sent] == ["a-placed", "a-shipped", "a-delivered", "a-paid"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,when\n1,2\n", "missing: order_id"),
        (HEADER + "a,created,yesterday,,,\n", "line 2: purchased"),
        (HEADER + ",created,2017-10-02T10:00Z,,,\n", "line 2: order_id"),
        (HEADER + "a,created,,,,\n", "line 2: order_id and purchased"),
    ],
)
def test_an_invalid_file_is_refused_with_line_and_column(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=reason):
        read(tmp_path, text)
