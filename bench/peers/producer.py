"""The producer alone: `python -m bench.peers.producer ORDERS BATCH` writes its figures as one line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from bench.workload import make
from orderflow import settings
from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.domain.rules import Rules
from orderflow.messaging import topics


async def main(orders: int, batch: int) -> None:
    events = make(orders, Rules(), name="producer").events
    publisher = KafkaPublisher(settings.load(settings.KafkaSettings))
    await publisher.publish(topics.STATUS, events[:batch])
    latencies: list[float] = []
    cpu_before, started_at = time.process_time(), time.perf_counter()
    for start in range(0, len(events), batch):
        sent_at = time.perf_counter()
        await publisher.publish(topics.STATUS, events[start : start + batch])
        latencies.append(time.perf_counter() - sent_at)
    seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu_before
    latencies.sort()
    figures = {
        "events": len(events),
        "seconds": seconds,
        "cpu": cpu,
        "p50": 1000 * latencies[len(latencies) // 2],
        "p99": 1000 * latencies[int(len(latencies) * 0.99)],
    }
    await asyncio.sleep(0)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
