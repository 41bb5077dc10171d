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
"""Requests in flight at the same time, for track alone; the other stages get CONNECTIONS."""
CONNECTIONS: Final = 64
BATCHES: Final = (1, 32, 256)
"""Events in one statement of pgbench."""
PRODUCER_BATCHES: Final = (32, 500)
"""Events in one publish() of the producer alone."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. An order makes four events; slow contenders get fewer orders. rounds are rounds of all
    contenders in turn. seconds is the duration of pgbench and of a steady rate. paced are these rates, in events per
    second. warm_up is in events."""

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
    options = _parser().parse_args(arguments)
    size = SIZES[options.size]
    rules = settings.read_toml(Rules, machine.ROOT / "examples/rules.toml", "RULES_FILE")
    cores = machine.Cores.of_this_machine()
    runs_by_section: dict[str, list[Run]] = {}
    with Lab(cores, options.partitions) as lab:
        bench = _Bench(lab, size, rules)
        bench.warm_up()
        for section in SECTIONS:
            if section in options.only:
                runs_by_section[section] = getattr(bench, section)()
    command = (
        f"python -m bench {options.size} --partitions {options.partitions} --only {','.join(options.only)}"
    )
    return _report(runs_by_section, command, cores, size, options.output)


class _Bench:
    """The sections. Each returns the runs of all its rounds and writes its progress to stderr."""

    def __init__(self, lab: Lab, size: Size, rules: Rules) -> None:
        self._lab = lab
        self._size = size
        self._warm = workload.make(200, rules, name="warm")
        self._work = workload.make(size.orders, rules)
        self._stage_work = workload.make(size.stage_orders, rules)
        self._slow_warm = workload.make(16, rules, name="warm")
        self._slow_work = workload.make(size.slow_orders, rules)
        self._mail_work = workload.make(size.mailed_orders, rules)
        self._rules = rules

    def warm_up(self) -> None:
        """The broker's JVM compiles its code while it runs, so the cost of its first tens of thousands of requests says
        nothing."""
        _print_progress("warming up Kafka and PostgreSQL")
        events = workload.Workload(self._size.warm_up // len(workload.LIFE))
        floors.producer(self._lab, events, CONNECTIONS // 2)
        for contender in (contenders.ORDERFLOW, contenders.FASTSTREAM_ROWS):
            runs.drain(self._lab, contender, self._warm, self._work)

    def contenders(self) -> list[Run]:
        all_contenders = (
            contenders.ORDERFLOW,
            contenders.FASTSTREAM_STATEMENT,
            contenders.FASTSTREAM_ROWS,
            contenders.DBOS,
        )
        results: list[Run] = []
        for number in range(1, self._size.rounds + 1):
            # The sequence changes from round to round, so that no contender always follows the same one.
            turn = number % len(all_contenders)
            for contender in all_contenders[turn:] + all_contenders[:turn]:
                slow = contender is contenders.DBOS
                warm, work = (self._slow_warm, self._slow_work) if slow else (self._warm, self._work)
                self._add(results, number, runs.drain(self._lab, contender, warm, work))
        return results

    def stages(self) -> list[Run]:
        lab, warm, work, stage_work = self._lab, self._warm, self._work, self._stage_work
        results: list[Run] = []
        for number in range(1, self._size.rounds + 1):
            self._add(results, number, *stages.track(lab, warm, stage_work, IN_FLIGHT))
            self._add(results, number, *stages.intake(lab, warm, work, CONNECTIONS))
            self._add(results, number, stages.validate(lab, warm, work, CONNECTIONS))
            self._add(results, number, stages.park(lab, warm, stage_work, CONNECTIONS))
            self._add(results, number, stages.shelve(lab, warm, stage_work, CONNECTIONS))
            self._add(results, number, stages.notify(lab, self._slow_warm, self._mail_work, CONNECTIONS // 2))
        return results

    def through(self) -> list[Run]:
        lab, warm = self._lab, self._warm
        results: list[Run] = []
        for number in range(1, self._size.rounds + 1):
            self._add(results, number, runs.drain(lab, contenders.THROUGH, warm, self._work))
        for rate in self._size.paced:
            orders = max(25, rate * self._size.seconds // len(workload.LIFE))
            paced = workload.make(orders, self._rules, name=f"paced{rate}")
            self._add(results, 1, runs.paced(lab, contenders.THROUGH, warm, paced, rate))
        return results

    def floors(self) -> list[Run]:
        lab, work, seconds = self._lab, self._work, self._size.seconds
        results: list[Run] = []
        for batch in BATCHES:
            for read in (False, True):
                self._add(results, 1, floors.pgbench(lab, work, batch, read=read, seconds=seconds))
        for batch in PRODUCER_BATCHES:
            self._add(results, 1, floors.producer(lab, work, batch))
        return results

    @staticmethod
    def _add(results: list[Run], number: int, *runs_of_round: Run) -> None:
        for run in runs_of_round:
            results.append(run)
            state = f"VOID: {'; '.join(run.faults)}" if run.faults else "nothing lost, nothing twice"
            _print_progress(
                f"round {number}: {run.name}: {run.rate:.0f} events/s, {run.cpu_us:.0f} us CPU an event, {state}"
            )


def _report(
    runs_by_section: dict[str, list[Run]], command: str, cores: machine.Cores, size: Size, output: str
) -> int:
    void = [
        f"{run.name}: {fault}"
        for results in runs_by_section.values()
        for run in results
        for fault in run.faults
    ]
    lines = {section: report.lines(results) for section, results in runs_by_section.items()}
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
            "medians": {section: [each.as_dict() for each in medians] for section, medians in lines.items()},
            "runs": {
                section: [run.as_dict() for run in results] for section, results in runs_by_section.items()
            },
        }
        print(json.dumps(document, indent=2))
        return 1 if void else 0
    for name, value in about.items():
        print(f"{name.replace('_', ' ')}: {value}")
    print("CPU, Kafka and PG: microseconds of CPU per event, of the measured processes and of the servers")
    for section, medians in lines.items():
        print(f"\n{report.table(section, medians)}")
        if section == "contenders" and ratios:
            print()
        for ratio in ratios if section == "contenders" else ():
            print(
                f"  against {ratio['against']}: {ratio['rate']} x the events/s at {ratio['cpu']} x the CPU"
                f" ({ratio['cpu_of_the_stage_alone']} x without delivery)"
            )
    print("\n" + ("VOID:\n  " + "\n  ".join(void) if void else "every run: nothing lost, nothing twice"))
    return 1 if void else 0


def _print_progress(text: str) -> None:
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
