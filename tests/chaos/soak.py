"""`python -m tests.chaos.soak`: many orders while something is killed every few seconds. Exit code 0: none missing,
none doubled. The books are files, so that 100,000 orders take no more memory than 1,000."""

import argparse
import asyncio
import logging
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.endless_scenarios import endless_scenarios
from tests.chaos.errors import NotSettledError
from tests.chaos.faults.servers import start_postgres
from tests.chaos.groups import Groups
from tests.chaos.journal import Journal
from tests.chaos.load import Load
from tests.chaos.manifests import STAGES
from tests.chaos.runner import Result, examine
from tests.chaos.scenario import Run, Scenario, end
from tests.chaos.shop import Shop, kill

SHORT = frozenset({"not paid yet", "cancelled", "held for review", "rejected, three reasons"})
"""Scenarios of one or two events."""
PARTITIONS = 32
_WEIGHTS = {"stage": 84, "delivery": 9, "postgres": 4, "kafka": 3}
_SETTLE_SECONDS = 300.0
"""As long as the stages get on within this time they are waited for: a slow machine takes longer, and settles."""
_PROGRESS_SECONDS = 30.0
_MOST_SEEDS = 1_000_000


class Killer:
    """Ends whatever the dice say; what nobody else starts again it starts itself."""

    def __init__(self, shop: Shop, rolls: random.Random, every: float) -> None:
        self.kills: Counter[str] = Counter()
        self._shop = shop
        self._rolls = rolls
        self._every = every

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._rolls.uniform(0.5, 1.5) * self._every)
            await self._strike(*self._rolls.choices(list(_WEIGHTS), list(_WEIGHTS.values())))

    async def _strike(self, what: str) -> None:
        match what:
            case "delivery":
                await self._shop.delivery.kill()
                await self._shop.delivery.start()
            case "postgres":
                await kill(self._shop.postgres)
                await start_postgres(self._shop)
            case "kafka":
                await kill(self._shop.brokers[0])
                await asyncio.to_thread(self._shop.brokers[0].start)
            case _:
                stages = [stage for stage in STAGES if self._shop.instances(stage)]
                if not stages:
                    return
                what = self._rolls.choice(stages)
                pid, _ = self._rolls.choice(self._shop.instances(what))
                end(pid)
        self.kills[what] += 1


async def _soak(
    state: Path, orders: int, every: float, per_second: float, seed: int, console: Console
) -> bool:
    began = time.monotonic()
    rolls = random.Random(seed)  # noqa: S311 - not for secrets
    prefix = f"c{seed}"
    async with Shop(state / "shop", partitions=PARTITIONS) as shop:
        groups = Groups(shop.bootstrap)
        journal = Journal(state / "soak.sqlite")
        scenarios = endless_scenarios(rolls.randrange(2**32), prefix, SHORT)
        load = Load(shop.intake, shop.bootstrap, journal, scenarios, per_second)
        killer = Killer(shop, rolls, every)
        started = time.monotonic()
        await _until_sent(load, killer, orders, groups, console)
        sent = time.monotonic()
        await _settle(groups)
        settled = time.monotonic()
        redelivered = shop.deliveries() - await asyncio.to_thread(groups.records)
        # What is on its way when notify or the database is killed: an e-mail and a webhook of each partition.
        deadly = killer.kills["notify"] + killer.kills["postgres"]
        scenario = Scenario("soak", "random kills", _nothing, deadly, 2 * PARTITIONS, SHORT)
        result = Result(scenario)
        await examine(Run(scenario, shop, load, journal, groups, rolls, prefix), result, [])
        journal.close()
    figures = {
        "orders": f"{result.account.orders:,}",
        "events": f"{result.account.events:,}",
        "missing": f"{result.account.losses}",
        "effects doubled": f"{result.account.effects_twice}",
        "notifications doubled": f"{result.account.sent_twice} (up to {result.allowed} may be)",
        "parked": f"{result.account.parks_found}, due {result.account.parks_due}",
        "made good by the audit": f"{result.republished}",
        "kills": ", ".join(f"{what} {count}" for what, count in killer.kills.most_common()),
        "redeliveries": f"{redelivered:,}",
        "sent in": f"{sent - started:.0f} s, {result.account.orders / (sent - started):.0f} orders/s",
        "settled after": f"{settled - started:.0f} s",
        "all in all": f"{(time.monotonic() - began) / 60:.1f} minutes",
        "harness at its largest": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB",
    }
    _show(figures, result, seed, console)
    return result.passed


async def _nothing(_: Run) -> None:
    """The soak strikes by itself."""


async def _settle(groups: Groups) -> None:
    """Raises NotSettledError where nobody gets on."""
    before = sys.maxsize
    while True:
        try:
            return await groups.until_settled(_SETTLE_SECONDS)
        except NotSettledError:
            left = sum((await asyncio.to_thread(groups.lags)).values())
            if left >= before:
                raise
            before = left


async def _until_sent(load: Load, killer: Killer, orders: int, groups: Groups, console: Console) -> None:
    killing = asyncio.create_task(killer.run())
    telling = asyncio.create_task(_tell(load, killer, groups, console))
    try:
        await load.run(orders)
    finally:
        for task in (killing, telling):
            task.cancel()
        await asyncio.gather(killing, telling, return_exceptions=True)
    if not killing.cancelled() and (error := killing.exception()):
        raise error


async def _tell(load: Load, killer: Killer, groups: Groups, console: Console) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        try:
            lags = await asyncio.to_thread(groups.lags)
        except Exception as error:  # noqa: BLE001 - Kafka may be dead at this moment
            lags = {type(error).__name__: 1}
        behind = ", ".join(f"{stage} {lag}" for stage, lag in lags.items() if lag)
        console.print(
            f"{load.scenario_count:,} orders, {killer.kills.total()} kills, behind: {behind or 'nobody'}",
            highlight=False,
        )


def _show(figures: dict[str, str], result: Result, seed: int, console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, figure in figures.items():
        table.add_row(name, figure)
    console.print(table)
    for fault in result.faults:
        console.print(fault, highlight=False, soft_wrap=True)
    totals = result.account
    console.print(
        f"soak: {totals.orders:,} orders, {totals.losses} missing, {totals.effects_twice} effects doubled, seed {seed}:"
        f" {'survived' if result.passed else 'NOT SURVIVED'}",
        highlight=False,
    )


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else random.randrange(_MOST_SEEDS)  # noqa: S311
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(f"seed {seed}: CHAOS_SEED={seed} repeats it", highlight=False)
    state = Path(tempfile.mkdtemp(prefix="orderflow-soak-"))
    logging.basicConfig(filename=state / "harness.log")
    state.chmod(0o755)
    if asyncio.run(_soak(state, options.orders, options.kill_every, options.rate, seed, console)):
        shutil.rmtree(state)
        return 0
    console.print(f"logs and journals: {state}", highlight=False, soft_wrap=True)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    seed = os.environ.get("CHAOS_SEED")  # empty: a new one
    parser.add_argument("--seed", type=int, default=int(seed) if seed else None, help="repeats the dice")
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds, on average")
    parser.add_argument("--rate", type=float, default=75.0, help="orders a second")
    return parser


if __name__ == "__main__":
    sys.exit(main())
