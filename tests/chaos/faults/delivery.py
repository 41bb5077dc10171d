"""The way between Kafka and the stages breaks: its process, its group, its answers, its sinks."""

import asyncio

from tests.chaos.errors import FaultError
from tests.chaos.faults.cutting import Cutter
from tests.chaos.scenario import MENDABLE, Run, Scenario, pause

_STORM_ROUNDS = 6
_LEAST_CUTS = 30


async def dies(run: Run) -> None:
    for _ in range(run.scenario.runs):
        await run.mid_load()
        with run.fault():
            await run.shop.delivery.kill()
            await run.shop.delivery.start()


async def members_come_and_go(run: Run) -> None:
    delivery = run.shop.delivery
    await run.mid_load()
    with run.fault():
        for number in range(_STORM_ROUNDS):
            await delivery.start()
            await pause(run.rolls.uniform(0.5, 2.0))
            if number % 3 == 2:
                await delivery.kill(0)
            else:
                await delivery.stop(run.rolls.randrange(delivery.running))
            await pause(run.rolls.uniform(0.0, 1.0))


async def answers_are_cut(run: Run) -> None:
    """One answer in four, of every stage, is lost after the effect."""
    cutter = Cutter(run.shop.delivery.ingress, run.rolls)
    await cutter.start()
    try:
        await run.shop.delivery.restart(through=cutter.url)
        await run.mid_load()
        with run.fault():
            cutter.share = 0.25
            await run.load.until_sent(60)
            cutter.share = 0.0
        await run.shop.delivery.restart()
    finally:
        await cutter.close()
    if cutter.cut < _LEAST_CUTS:
        raise FaultError(f"only {cutter.cut} answers were cut off")


async def everything_is_read_again(run: Run) -> None:
    delivery = run.shop.delivery
    await run.mid_load()
    with run.fault():
        await delivery.stop_all()
        records = await asyncio.to_thread(run.groups.records)
        before = run.shop.deliveries()
        await asyncio.to_thread(run.groups.rewind)
        await delivery.start()
        await run.settle()
    if run.shop.deliveries() - before < records:
        raise FaultError(f"{records} records were not all delivered again")


async def sink_and_dead_letter_sink_are_away(run: Run) -> None:
    """Retries end while neither can be reached: the record is dropped and its offset committed."""
    delivery = run.shop.delivery
    for stage in ("validate", "track", "notify"):
        await delivery.restart("hasty", away=(stage, "park"))
        await run.mid_load()
        with run.fault():
            await pause(4.0)
        await delivery.restart("hasty")
        await run.load.until_sent(10)
    await run.settle()
    await delivery.restart()


SCENARIOS = [
    Scenario("delivery-dies", "kill -9 of the delivery process", dies, 2),
    Scenario("rebalance-storm", "delivery members join, leave and die", members_come_and_go),
    Scenario("answers-cut", "answers cut off after the effect", answers_are_cut),
    Scenario(
        "full-replay", "all topics read again from the start", everything_is_read_again, settle_seconds=400
    ),
    Scenario(
        "sinks-away",
        "sink and dead-letter sink down together",
        sink_and_dead_letter_sink_are_away,
        runs=3,
        kinds=MENDABLE,
        mends=True,
    ),
]
