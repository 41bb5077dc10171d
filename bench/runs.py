"""One run each: start, warm up, measure, stop, count."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench import count
from bench.contenders import Contender, Running
from bench.machine import await_true
from orderflow.messaging import topics

if TYPE_CHECKING:
    from bench.lab import Ends, Lab
    from bench.workload import Workload
    from orderflow.messaging.cloudevent import CloudEvent

DRAIN_SECONDS: Final = 180
_HELD_BACK_SECONDS: Final = 0.3
"""A paused consumer must stay in its group, and come back before it is missed."""


@dataclass(slots=True)
class Run:
    """One run of one contender. seconds is the wall time of `events` events; cpu is in seconds by process;
    latencies are milliseconds. faults says what was lost or came twice: with any the figures are void."""

    what: str
    events: int
    seconds: float
    cpu: dict[str, float]
    servers: dict[str, float] = field(default_factory=dict)
    p50: float | None = None
    p99: float | None = None
    per: int = 1
    """How many events make one order."""
    faults: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU per event, all processes of the contender together, in microseconds."""
        return 1e6 * sum(self.cpu.values()) / self.events

    @property
    def per_core(self) -> float:
        """Events a second that one core of CPU time gives."""
        return self.events / sum(self.cpu.values())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"rate": self.rate, "cpu_us": self.cpu_us}


def drain(lab: Lab, contender: Contender, warm: Workload, work: Workload) -> Run:
    """How long a backlog takes: from the moment the consumer may go on to the last announcement.

    It lies in the topic that the contender's first group reads: inbox, or events.
    """
    reads = next(iter(contender.groups.values()))
    before = {topic: lab.ends(topic) for topic in topics.ALL}
    for group, topic in contender.groups.items():
        lab.skip_to(group, topic, before[topic])
    lab.empty_tables()
    with Running(contender, lab) as running:
        lab.publish(reads, _backlog(warm, reads))
        _await_announced(lab, running, before[topics.STATUS], warm.size)
        lab.empty_tables()
        begin = lab.ends(topics.STATUS)
        running.consumer.pause()
        time.sleep(_HELD_BACK_SECONDS)
        lab.publish(reads, _backlog(work, reads))
        cpu, servers, since = running.cpu(), lab.cpu(), time.time()
        running.consumer.resume()
        _await_announced(lab, running, begin, work.size)
        seconds = time.time() - since
        used = {name: now - cpu[name] for name, now in running.cpu().items()}
        taken = lab.cpu().since(servers)
    faults = count.tracked(lab, work, begin)
    for group, topic in contender.groups.items():
        faults += count.committed(lab, group, topic)
    return Run(
        contender.name,
        work.size,
        seconds,
        used,
        {"kafka": taken.kafka, "postgres": taken.postgres},
        per=work.size // work.orders,
        faults=faults,
    )


def _backlog(work: Workload, topic: str) -> list[CloudEvent]:
    return work.inbox if topic == topics.INBOX else work.events


def _await_announced(lab: Lab, running: Running, start: Ends, how_many: int) -> None:
    def announced() -> bool:
        ends = lab.ends(topics.STATUS)
        return sum(ends[number] - start[number] for number in ends) >= how_many

    await_true(
        f"{how_many} announcements",
        DRAIN_SECONDS,
        announced,
        *running.parts.values(),
        pause=0.05,
    )


def paced(lab: Lab, contender: Contender, warm: Workload, work: Workload, rate: float) -> Run:
    """How long each event takes at a steady rate, in events a second: from its record's timestamp in the topic
    that the contender reads to the commit of its rows."""
    reads = next(iter(contender.groups.values()))
    before = {topic: lab.ends(topic) for topic in topics.ALL}
    for group, topic in contender.groups.items():
        lab.skip_to(group, topic, before[topic])
    lab.empty_tables()
    with Running(contender, lab) as running:
        lab.publish(reads, _backlog(warm, reads))
        _await_announced(lab, running, before[topics.STATUS], warm.size)
        lab.empty_tables()
        begin, source = lab.ends(topics.STATUS), lab.ends(reads)
        cpu, servers, since = running.cpu(), lab.cpu(), time.time()
        lab.publish(reads, _backlog(work, reads), rate=rate)
        _await_announced(lab, running, begin, work.size)
        seconds = time.time() - since
        used = {name: now - cpu[name] for name, now in running.cpu().items()}
        taken = lab.cpu().since(servers)
    sent = count.sent_at(lab.between(reads, source, lab.ends(reads)))
    # now() of PostgreSQL is the transaction's start: the commit is one statement and one fsync later.
    done: Any = lab.rows("SELECT source, id, extract(epoch FROM recorded_at)::float8 FROM ledger")
    took = sorted(1000 * (at - sent[source, event]) for source, event, at in done)
    return Run(
        f"{contender.name}, at {rate:.0f} events/s",
        work.size,
        seconds,
        used,
        {"kafka": taken.kafka, "postgres": taken.postgres},
        p50=took[len(took) // 2],
        p99=took[int(len(took) * 0.99)],
        per=work.size // work.orders,
        faults=count.tracked(lab, work, begin),
    )
