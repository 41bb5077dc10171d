"""The floor of publishing: `python -m bench.peers.producer ORDERS IN_FLIGHT` writes its figures as one JSON line."""

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


async def main(orders: int, in_flight: int) -> None:
    events = make(orders, Rules(), name="producer").events
    publisher = KafkaPublisher(settings.load(settings.KafkaSettings))
    await publisher.publish(topics.STATUS, events[:in_flight])
    took: list[float] = []
    cpu, since = time.process_time(), time.perf_counter()
    for start in range(0, len(events), in_flight):
        before = time.perf_counter()
        await publisher.publish(topics.STATUS, events[start : start + in_flight])
        took.append(time.perf_counter() - before)
    seconds, used = time.perf_counter() - since, time.process_time() - cpu
    took.sort()
    figures = {
        "events": len(events),
        "seconds": seconds,
        "cpu": used,
        "p50": 1000 * took[len(took) // 2],
        "p99": 1000 * took[int(len(took) * 0.99)],
    }
    await asyncio.sleep(0)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
