"""A stage's process dies, stops or works eight times over."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import aiohttp
from confluent_kafka import Consumer, Message, TopicPartition

from orderflow.messaging import topics
from tests.chaos.errors import FaultError
from tests.chaos.scenario import Run, Scenario, end, pause
from tests.chaos.shop import PARTITIONS
from tests.chaos.waiting import until

SINK_TIMEOUT_SECONDS = 6
"""As delivery.yaml has it."""
FENCED_SECONDS = 15.0
_WORKERS = 8
_EVENTS = 200
_KILLED = ("validate", "track", "track", "notify", "shelve")
"""Track comes twice: it records the places of two topics."""
_DELIVERIES_BETWEEN_KILLS = (20, 120)
"""So that stages have handled something, however long their processes take to start."""
_COUNTED = frozenset({"returned, refunded in two parts", "cancelled after it left"})
"""Scenarios that do not end the same where any of their events takes effect twice: half a refund is one."""
IN_FLIGHT = PARTITIONS * 2
"""Notifications that can be on their way when a notify dies: an e-mail and a webhook of an event per partition."""


def dies(stage: str, point: str) -> Callable[[Run], Awaitable[None]]:
    async def strike(run: Run) -> None:
        async with run.faulty(stage):
            for _ in range(run.scenario.runs):
                await run.mid_load()
                with run.fault():
                    await run.strike_at(stage, point)

    return strike


async def stops_and_wakes_up_late(run: Run) -> None:
    """Between reading and writing, for longer than the delivery waits; meanwhile the other process has done it."""
    fenced = run.shop.triggers / "track.fenced"
    async with run.faulty("track", processes=2):
        for _ in range(run.scenario.runs):
            await run.mid_load()
            fenced.unlink(missing_ok=True)
            with run.fault():
                stopped = await run.strike_at("track", "after read", signal.SIGSTOP)
                try:
                    await pause(2 * SINK_TIMEOUT_SECONDS + 2)
                finally:
                    end(stopped, signal.SIGCONT)
            try:
                await until(fenced.exists, "a conflict", seconds=FENCED_SECONDS)
            except FaultError:
                run.missed.append("the late writer met no conflict")


async def die_again_and_again(run: Run) -> None:
    """Nothing else fails. The audit runs all the time. It looks again at places that a killed process had not
    written, and none of them is missing."""
    ended = asyncio.Event()
    auditing = asyncio.create_task(_audit_again_and_again(run, ended))
    try:
        await run.mid_load()
        with run.fault():
            for _ in range(run.scenario.runs):
                target = run.shop.deliveries() + run.rolls.randint(*_DELIVERIES_BETWEEN_KILLS)
                await until(lambda least=target: run.shop.deliveries() >= least, "deliveries", seconds=90)
                stages = [each for each in _KILLED if run.shop.instances(each)]
                if stages:
                    process_id, _ = run.rolls.choice(run.shop.instances(run.rolls.choice(stages)))
                    end(process_id)
    finally:
        ended.set()
        await auditing
    await run.settle()
    await run.audit()
    if not sum(each.looked_at for each in run.findings):
        run.missed.append("every place had been written, so that the audit had nothing to look at again")


async def _audit_again_and_again(run: Run, ended: asyncio.Event) -> None:
    while not ended.is_set():
        await run.audit()
        await pause(2.0)


async def eight_at_once(run: Run) -> None:
    """Every event of the topic goes to eight processes at one moment, and to one of them through the delivery."""
    await run.shop.apply("track", processes=_WORKERS)
    try:
        # What the delivery has not brought yet comes in its sequence too: an event that came before an earlier one of
        # its source would overtake it.
        begin = await asyncio.to_thread(run.groups.committed_by, "track")
        doubler = Doubler(run.shop.bootstrap, [port for _, port in run.shop.instances("track")], begin)
        task = asyncio.create_task(doubler.run())
        try:
            with run.fault():
                await until(lambda: doubler.sent >= _EVENTS or task.done(), f"{_EVENTS} events", seconds=120)
        finally:
            doubler.ending = True
            await task
    finally:
        await run.shop.apply("track")


class Doubler:
    """Reads the events topic as it grows, and sends every event to all processes at once."""

    def __init__(self, bootstrap: str, ports: list[int], begin: dict[int, int]) -> None:
        """begin has the first offset to read, by partition."""
        self.sent = 0
        self.ending = False
        self._ports = ports
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "chaos-doubler"})
        places = [TopicPartition(topics.EVENTS, number, begin.get(number, 0)) for number in range(PARTITIONS)]
        self._consumer.assign(places)

    async def run(self) -> None:
        try:
            async with aiohttp.ClientSession() as session:
                while not self.ending:
                    message = await asyncio.to_thread(self._consumer.poll, 0.2)
                    if message is not None and message.error() is None:
                        await asyncio.gather(*(self._post(session, port, message) for port in self._ports))
                        self.sent += 1
        finally:
            self._consumer.close()

    async def _post(self, session: aiohttp.ClientSession, port: int, message: Message) -> None:
        headers = {
            name.replace("ce_", "ce-", 1): value.decode() for name, value in message.headers() or [] if value
        }
        url = f"http://127.0.0.1:{port}/"
        async with session.post(url, data=message.value(), headers=headers) as answer:
            await answer.read()


SCENARIOS = [
    Scenario(
        "validate-before-publish",
        "kill -9 of validate before it publishes",
        dies("validate", "before publish"),
        3,
    ),
    Scenario(
        "validate-after-publish",
        "kill -9 of validate, published, no 2xx",
        dies("validate", "after publish"),
        3,
    ),
    Scenario("track-before-commit", "kill -9 of track before commit", dies("track", "before commit"), 3),
    Scenario(
        "track-after-commit", "kill -9 of track, committed, not published", dies("track", "after commit"), 3
    ),
    Scenario("track-after-publish", "kill -9 of track, published, no 2xx", dies("track", "after publish"), 3),
    Scenario(
        "notify-after-claim",
        "kill -9 of notify, claimed, not sent",
        dies("notify", "after claim"),
        2,
        IN_FLIGHT,
    ),
    Scenario(
        "notify-after-send",
        "kill -9 of notify, sent, not recorded",
        dies("notify", "after send"),
        2,
        IN_FLIGHT,
    ),
    Scenario(
        "notify-after-record",
        "kill -9 of notify, recorded, no 2xx",
        dies("notify", "after record"),
        2,
        IN_FLIGHT,
    ),
    Scenario("stages-die", "kill -9 of a stage, again and again", die_again_and_again, 16, IN_FLIGHT),
    Scenario("track-late-writer", "SIGSTOP of track past the timeout", stops_and_wakes_up_late, 2),
    Scenario("eight-workers", "every event to 8 workers at once", eight_at_once, kinds=_COUNTED),
]
