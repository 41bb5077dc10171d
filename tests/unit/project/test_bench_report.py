"""The report of `make bench`: medians of the rounds, void rounds, ratios."""

from bench.report import WIDTH, lines, ratios, table
from bench.runs import Run


def run(name: str, seconds: float = 2.0, *faults: str, **cpu: float) -> Run:
    servers = {"kafka": 0.5, "postgres": 0.5}
    return Run(name, 8000, seconds, cpu or {"stage": 1.0}, servers, events_per_order=4, faults=list(faults))


def test_a_figure_is_the_median_of_the_rounds() -> None:
    (line,) = lines([run("ours", 2.0), run("ours", 8.0), run("ours", 4.0)])
    assert (line.rounds, line.rate, line.slowest, line.fastest) == (3, 2000, 1000, 4000)
    assert (line.orders, line.cpu_us) == (500, 125)


def test_a_round_that_lost_something_counts_for_nothing_but_is_told() -> None:
    (line,) = lines([run("ours", 2.0), run("ours", 1.0, "ledger rows: 1 instead of 2")])
    assert (line.rounds, line.void, line.rate) == (1, 1, 4000)
    assert "1 more rounds are void" in table("contenders", [line])
    (void,) = lines([run("ours", 1.0, "announcements twice: 1 instead of 0")])
    assert "void" in table("contenders", [void])
    assert ratios([void], "ours") == []


def test_ours_is_compared_with_and_without_what_brings_the_events() -> None:
    medians = lines([run("ours", 2.0, track=3.0, delivery=1.0), run("theirs", 4.0, theirs=2.0)])
    assert ratios(medians, "ours") == [
        {"against": "theirs", "rate": 2.0, "cpu": 2.0, "cpu_of_the_stage_alone": 1.5}
    ]


def test_the_table_fits_100_columns() -> None:
    medians = lines([run("FastStream, many events a statement", 0.1, track=300.0, delivery=100.0)])
    assert max(map(len, table("contenders", medians).splitlines())) <= WIDTH
