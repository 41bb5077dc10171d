"""The medians of all rounds, as a table for people and as JSON for machines."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.runs import Run

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Line:
    """The medians of one contender's rounds, without void rounds. cpu and servers are in microseconds per event."""

    name: str
    rounds: int
    void: int
    rate: float
    slowest: float
    fastest: float
    orders: float
    cpu: dict[str, float]
    servers: dict[str, float]
    p50: float | None
    p99: float | None

    @property
    def cpu_us(self) -> float:
        return sum(self.cpu.values())

    @property
    def per_core(self) -> float:
        """Events per second of the contender's CPU time."""
        return 1e6 / self.cpu_us if self.cpu_us else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "what": self.name,
            "rounds": self.rounds,
            "void_rounds": self.void,
            "events_per_second": round(self.rate, 1),
            "slowest_round": round(self.slowest, 1),
            "fastest_round": round(self.fastest, 1),
            "orders_per_second": round(self.orders, 1),
            "cpu_us_per_event": round(self.cpu_us, 1),
            "cpu_us_per_event_by_process": _rounded(self.cpu),
            "servers_us_per_event": _rounded(self.servers),
            "events_per_core_second": round(self.per_core, 1),
            "p50_ms": self.p50,
            "p99_ms": self.p99,
        }


def lines(runs: Iterable[Run]) -> list[Line]:
    runs_of: dict[str, list[Run]] = {}
    for run in runs:
        runs_of.setdefault(run.name, []).append(run)
    return [_line(name, rounds) for name, rounds in runs_of.items()]


def _line(name: str, rounds: Sequence[Run]) -> Line:
    good = [run for run in rounds if not run.faults]
    void = len(rounds) - len(good)
    if not good:
        return Line(name, 0, void, 0, 0, 0, 0, {}, {}, None, None)
    rates = [run.rate for run in good]
    return Line(
        name=name,
        rounds=len(good),
        void=void,
        rate=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        orders=median(run.rate / run.events_per_order for run in good),
        cpu={each: median(1e6 * run.cpu[each] / run.events for run in good) for each in good[0].cpu},
        servers={
            each: median(1e6 * run.servers[each] / run.events for run in good) for each in good[0].servers
        },
        p50=_median(run.p50 for run in good),
        p99=_median(run.p99 for run in good),
    )


def _median(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return round(median(known), 2) if known else None


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(figure, 1) for name, figure in figures.items()}


def table(title: str, lines: Sequence[Line]) -> str:
    """One row per line, at most WIDTH columns wide; where a contender has several processes, their shares follow."""
    columns = f"{'events/s':>9}{'from-to':>12}{'orders/s':>9}{'CPU us':>8}{'Kafka':>7}{'PG':>6}{'p50 ms':>7}{'p99':>6}"
    head = f"{title:<36}{columns}"
    rows = [head, "-" * WIDTH]
    for line in lines:
        if not line.rounds:
            rows.append(f"{line.name:<36}{'void':>9}")
            continue
        span = f"{line.slowest:.0f}-{line.fastest:.0f}"
        rows.append(
            f"{line.name:<36}{line.rate:>9.0f}{span:>12}{line.orders:>9.0f}{line.cpu_us:>8.0f}"
            f"{line.servers.get('kafka', 0):>7.0f}{line.servers.get('postgres', 0):>6.0f}"
            f"{_latency(line.p50):>7}{_latency(line.p99):>6}"
        )
        if line.void:
            rows.append(f"  {line.void} more rounds are void")
        if len(line.cpu) > 1:
            shares = ", ".join(f"{process} {cpu_us:.0f}" for process, cpu_us in line.cpu.items())
            rows.append(f"  of its CPU: {shares}")
    return "\n".join(rows)


def _latency(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def ratios(lines: Sequence[Line], name: str) -> list[dict[str, Any]]:
    """The rate and the CPU of the line with that name, each divided by those of every other line."""
    by_name = {line.name: line for line in lines if line.rounds}
    ours = by_name.get(name)
    if ours is None:
        return []
    stage_us = ours.cpu.get("track", ours.cpu_us)
    return [
        {
            "against": line.name,
            "rate": round(ours.rate / line.rate, 2),
            "cpu": round(ours.cpu_us / line.cpu_us, 2),
            "cpu_of_the_stage_alone": round(stage_us / line.cpu_us, 2),
        }
        for line in by_name.values()
        if line.name != name
    ]
