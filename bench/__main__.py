"""Command line: `python -m bench [quick|full] [-o table|json]`; `make bench`, `make bench BENCH=quick`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench import contenders, floors, machine, report, runs, stages, workload
from bench.lab import Lab
from orderflow import settings
from orderflow.domain.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.runs import Run

PARTITIONS: Final = 64
IN_FLIGHT: Final = (8, 32, 64, 128)
"""Partitions that have an event in flight, of track alone; the other stages get MANY."""
MANY: Final = 64
BATCHES: Final = (1, 32, 256)
ROUNDS_OF: Final = (32, 500)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. An order makes four events; there are fewer orders where each takes longer.
    rounds are of each contender in turn, seconds those of pgbench and of a steady rate, paced such rates in
    events a second, warm_up is in events."""

    orders: int
    stage_orders: int
    slow_orders: int
    mailed_orders: int
    rounds: int
    seconds: int
    paced: tuple[int, ...]
    warm_up: int


SIZES: Final = {
    "quick": Size(500, 250, 40, 100, rounds=1, seconds=2, paced=(200,), warm_up=4_000),
    "full": Size(2000, 750, 100, 300, rounds=3, seconds=5, paced=(20, 200, 500), warm_up=40_000),
}
SECTIONS: Final = ("contenders", "stages", "through", "floors")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    size = SIZES[given.size]
    rules = settings.read_toml(Rules, machine.ROOT / "examples/rules.toml", "RULES_FILE")
    cores = machine.Cores.of_this_machine()
    said: dict[str, list[Run]] = {}
    with Lab(cores, given.partitions) as lab:
        bench = _Bench(lab, size, rules)
        bench.warm_up()
        for section in SECTIONS:
            if section in given.only:
                said[section] = getattr(bench, section)()
    command = f"python -m bench {given.size} --partitions {given.partitions} --only {','.join(given.only)}"
    return _report(said, command, cores, size, given.output)


class _Bench:
    """The sections. Each gives the runs of all its rounds; progress goes to stderr."""

    def __init__(self, lab: Lab, size: Size, rules: Rules) -> None:
        self._lab = lab
        self._size = size
        self._warm = workload.make(200, rules, name="warm")
        self._work = workload.make(size.orders, rules)
        self._less = workload.make(size.stage_orders, rules)
        self._slow_warm = workload.make(16, rules, name="warm")
        self._slow = workload.make(size.slow_orders, rules)
        self._mailed = workload.make(size.mailed_orders, rules)
        self._rules = rules

    def warm_up(self) -> None:
        """The broker's code is compiled while it runs: what its first ten thousands of requests cost says nothing."""
        _say("warming up Kafka and PostgreSQL")
        floors.producer(self._lab, workload.Workload(self._size.warm_up // len(workload.LIFE)), MANY // 2)
        for who in (contenders.ORDERFLOW, contenders.FASTSTREAM_ROWS):
            runs.drain(self._lab, who, self._warm, self._work)

    def contenders(self) -> list[Run]:
        everyone = (
            contenders.ORDERFLOW,
            contenders.FASTSTREAM_STATEMENT,
            contenders.FASTSTREAM_ROWS,
            contenders.DBOS,
        )
        kept: list[Run] = []
        for number in range(1, self._size.rounds + 1):
            # Whoever comes after whom changes from round to round.
            turn = number % len(everyone)
            for who in everyone[turn:] + everyone[:turn]:
                slow = who is contenders.DBOS
                warm, work = (self._slow_warm, self._slow) if slow else (self._warm, self._work)
                self._keep(kept, number, runs.drain(self._lab, who, warm, work))
        return kept

    def stages(self) -> list[Run]:
        lab, warm, work, less = self._lab, self._warm, self._work, self._less
        kept: list[Run] = []
        for number in range(1, self._size.rounds + 1):
            self._keep(kept, number, *stages.track(lab, warm, less, IN_FLIGHT))
            self._keep(kept, number, *stages.intake(lab, warm, work, MANY))
            self._keep(kept, number, stages.validate(lab, warm, work, MANY))
            self._keep(kept, number, stages.park(lab, warm, less, MANY))
            self._keep(kept, number, stages.shelve(lab, warm, less, MANY))
            self._keep(kept, number, stages.notify(lab, self._slow_warm, self._mailed, MANY // 2))
        return kept

    def through(self) -> list[Run]:
        lab, warm = self._lab, self._warm
        kept: list[Run] = []
        for number in range(1, self._size.rounds + 1):
            self._keep(kept, number, runs.drain(lab, contenders.THROUGH, warm, self._work))
        for rate in self._size.paced:
            orders = max(25, rate * self._size.seconds // len(workload.LIFE))
            paced = workload.make(orders, self._rules, name=f"paced{rate}")
            self._keep(kept, 1, runs.paced(lab, contenders.THROUGH, warm, paced, rate))
        return kept

    def floors(self) -> list[Run]:
        lab, work, seconds = self._lab, self._work, self._size.seconds
        kept: list[Run] = []
        for batch in BATCHES:
            for read in (False, True):
                self._keep(kept, 1, floors.pgbench(lab, work, batch, read=read, seconds=seconds))
        for in_flight in ROUNDS_OF:
            self._keep(kept, 1, floors.producer(lab, work, in_flight))
        return kept

    @staticmethod
    def _keep(kept: list[Run], number: int, *found: Run) -> None:
        for run in found:
            kept.append(run)
            state = f"VOID: {'; '.join(run.faults)}" if run.faults else "nothing lost, nothing twice"
            _say(
                f"round {number}: {run.what}: {run.rate:.0f} events/s, {run.cpu_us:.0f} us CPU an event, {state}"
            )


def _report(said: dict[str, list[Run]], command: str, cores: machine.Cores, size: Size, output: str) -> int:
    void = [f"{run.what}: {fault}" for found in said.values() for run in found for fault in run.faults]
    lines = {section: report.lines(found) for section, found in said.items()}
    ratios = report.ratios(lines.get("contenders", []), contenders.ORDERFLOW.name)
    about: dict[str, Any] = {
        "command": command,
        "hardware": machine.hardware(),
        "cores": cores.sentence(),
        "durability": "fsync on, synchronous_commit on, acks=all, idempotent producers",
        "events_per_order": len(workload.LIFE),
        "orders": size.orders,
        "bytes_of_a_placed_order": len(json.dumps(workload.order(1), separators=(",", ":"))),
    }
    if output == "json":
        document = about | {
            "void": void,
            "ratios": ratios,
            "medians": {section: [line.as_dict() for line in shown] for section, shown in lines.items()},
            "runs": {section: [run.as_dict() for run in found] for section, found in said.items()},
        }
        print(json.dumps(document, indent=2))
        return 1 if void else 0
    for name, value in about.items():
        print(f"{name.replace('_', ' ')}: {value}")
    print("CPU, Kafka and PG: microseconds of CPU an event, of the measured processes and of the servers")
    for section, shown in lines.items():
        print(f"\n{report.table(section, shown)}")
        if section == "contenders" and ratios:
            print()
        for ratio in ratios if section == "contenders" else ():
            print(
                f"  against {ratio['against']}: {ratio['rate']} x the events/s at {ratio['cpu']} x the CPU"
                f" ({ratio['cpu_of_the_stage_alone']} x without delivery)"
            )
    print("\n" + ("VOID:\n  " + "\n  ".join(void) if void else "every run: nothing lost, nothing twice"))
    return 1 if void else 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("size", nargs="?", choices=tuple(SIZES), default="full")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--partitions", type=int, default=PARTITIONS, help="of every topic")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=SECTIONS, help=f"of {','.join(SECTIONS)}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
