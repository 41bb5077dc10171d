"""One run of a contender: start it, warm it up, measure, stop it, count the events."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench import count
from bench.contenders import Contender, Running
from bench.machine import await_true
from orderflow.messaging import topics

if TYPE_CHECKING:
    from bench.lab import Lab, Offsets
    from bench.workload import Workload
    from orderflow.messaging.cloudevent import CloudEvent

DRAIN_SECONDS: Final = 180
_PAUSE_SECONDS: Final = 0.3
"""Shorter than any session timeout, so that a paused consumer stays in its group."""


@dataclass(slots=True)
class Run:
    """One run of one contender. seconds is the wall time of `events` events; cpu is in seconds, by process; latencies
    are in milliseconds. faults lists lost and duplicated events; with any, the run is void."""

    name: str
    events: int
    seconds: float
    cpu: dict[str, float]
    servers: dict[str, float] = field(default_factory=dict)
    p50: float | None = None
    p99: float | None = None
    events_per_order: int = 1
    faults: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU per event of all processes of the contender, in microseconds."""
        return 1e6 * sum(self.cpu.values()) / self.events

    @property
    def per_core(self) -> float:
        """Events per second of one core's CPU time."""
        return self.events / sum(self.cpu.values())

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        keys = {"what": fields.pop("name"), "per": fields.pop("events_per_order")}
        return keys | fields | {"rate": self.rate, "cpu_us": self.cpu_us}


def drain(lab: Lab, contender: Contender, warm: Workload, work: Workload) -> Run:
    """Measures how long a backlog takes, from the moment the consumer resumes to the last announcement.

    The backlog is in the topic that the contender's first group reads: inbox or events.
    """
    input_topic = next(iter(contender.groups.values()))
    before = {topic: lab.end_offsets(topic) for topic in topics.ALL}
    for group, topic in contender.groups.items():
        lab.commit(group, topic, before[topic])
    lab.empty_tables()
    with Running(contender, lab) as running:
        lab.publish(input_topic, _backlog(warm, input_topic))
        _await_announcements(lab, running, before[topics.STATUS], warm.size)
        lab.empty_tables()
        start = lab.end_offsets(topics.STATUS)
        running.consumer.pause()
        time.sleep(_PAUSE_SECONDS)
        lab.publish(input_topic, _backlog(work, input_topic))
        cpu_before, servers_before, started_at = running.cpu(), lab.cpu(), time.time()
        running.consumer.resume()
        _await_announcements(lab, running, start, work.size)
        seconds = time.time() - started_at
        cpu = {name: total - cpu_before[name] for name, total in running.cpu().items()}
        servers = lab.cpu().since(servers_before)
    faults = count.tracked(lab, work, start)
    for group, topic in contender.groups.items():
        faults += count.committed(lab, group, topic)
    return Run(
        contender.name,
        work.size,
        seconds,
        cpu,
        {"kafka": servers.kafka, "postgres": servers.postgres},
        events_per_order=work.size // work.orders,
        faults=faults,
    )


def _backlog(work: Workload, topic: str) -> list[CloudEvent]:
    return work.inbox if topic == topics.INBOX else work.events


def _await_announcements(lab: Lab, running: Running, start: Offsets, expected: int) -> None:
    def announced() -> bool:
        ends = lab.end_offsets(topics.STATUS)
        return sum(ends[partition] - start[partition] for partition in ends) >= expected

    await_true(
        f"{expected} announcements",
        DRAIN_SECONDS,
        announced,
        *running.processes.values(),
        pause=0.05,
    )


def paced(lab: Lab, contender: Contender, warm: Workload, work: Workload, rate: float) -> Run:
    """Measures how long each event takes at a steady rate (events per second): from the timestamp of its record in the
    contender's input topic to the commit of its rows."""
    input_topic = next(iter(contender.groups.values()))
    before = {topic: lab.end_offsets(topic) for topic in topics.ALL}
    for group, topic in contender.groups.items():
        lab.commit(group, topic, before[topic])
    lab.empty_tables()
    with Running(contender, lab) as running:
        lab.publish(input_topic, _backlog(warm, input_topic))
        _await_announcements(lab, running, before[topics.STATUS], warm.size)
        lab.empty_tables()
        status_start, input_start = lab.end_offsets(topics.STATUS), lab.end_offsets(input_topic)
        cpu_before, servers_before, started_at = running.cpu(), lab.cpu(), time.time()
        lab.publish(input_topic, _backlog(work, input_topic), rate=rate)
        _await_announcements(lab, running, status_start, work.size)
        seconds = time.time() - started_at
        cpu = {name: total - cpu_before[name] for name, total in running.cpu().items()}
        servers = lab.cpu().since(servers_before)
    sent = count.sent_at(lab.read(input_topic, input_start, lab.end_offsets(input_topic)))
    # PostgreSQL's now() is the start of the transaction; the commit is one statement and one fsync later.
    rows: Any = lab.query_rows("SELECT source, id, extract(epoch FROM recorded_at)::float8 FROM ledger")
    latencies = sorted(1000 * (at - sent[source, event_id]) for source, event_id, at in rows)
    return Run(
        f"{contender.name}, at {rate:.0f} events/s",
        work.size,
        seconds,
        cpu,
        {"kafka": servers.kafka, "postgres": servers.postgres},
        p50=latencies[len(latencies) // 2],
        p99=latencies[int(len(latencies) * 0.99)],
        events_per_order=work.size // work.orders,
        faults=count.tracked(lab, work, status_start),
    )
