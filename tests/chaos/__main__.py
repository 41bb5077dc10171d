"""`python -m tests.chaos`: every fault against real servers and real processes. Exit code 0: all survived."""

import argparse
import asyncio
import itertools
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import delivery, logs, network, poison, restore, servers, shapes, stages
from tests.chaos.runner import Result, execute
from tests.chaos.scenario import Scenario
from tests.chaos.shop import Shop
from tests.chaos.table import show

SCENARIOS = [
    *stages.SCENARIOS,
    *delivery.SCENARIOS,
    *servers.SCENARIOS,
    *network.SCENARIOS,
    *shapes.SCENARIOS,
    *logs.SCENARIOS,
    *restore.SCENARIOS,
    *poison.SCENARIOS,
]
_SEEDS = 1_000_000


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    named = [name for name in options.only.split(",") if name]
    unknown = set(named) - {each.name for each in SCENARIOS}
    if options.list or unknown:
        names = "\n".join(f"{each.name:25} {each.fault}" for each in SCENARIOS)
        sys.stdout.write(f"{names}\n")
        sys.stderr.writelines(f"there is no scenario {name}\n" for name in sorted(unknown))
        return 2 if unknown else 0
    chosen = [each for each in SCENARIOS if not named or each.name in named]
    barred = [each for each in chosen if each.needs_root and os.geteuid() != 0]
    seed = options.seed if options.seed is not None else random.randrange(_SEEDS)  # noqa: S311
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"seed {seed}: CHAOS_SEED={seed} repeats it", highlight=False)
    state = Path(tempfile.mkdtemp(prefix="orderflow-chaos-"))
    logging.basicConfig(filename=state / "harness.log")
    state.chmod(0o755)
    began = time.monotonic()
    results = asyncio.run(_run([each for each in chosen if each not in barred], state, seed, console))
    for each in barred:
        console.print(f"{each.name}: not tried, it takes root", highlight=False)
    show(results, seed, (time.monotonic() - began) / 60, console)
    if all(result.passed for result in results):
        shutil.rmtree(state)
        return 0
    console.print(f"logs and journals: {state}", highlight=False, soft_wrap=True)
    return 1


async def _run(chosen: list[Scenario], state: Path, seed: int, console: Console) -> list[Result]:
    """Scenarios share a shop as long as they leave it whole; those that need more brokers get their own."""
    results: list[Result] = []
    waiting = sorted(enumerate(chosen), key=lambda each: each[1].brokers)
    shops = itertools.count(1)
    while waiting:
        brokers = waiting[0][1].brokers
        async with Shop(state / str(next(shops)), brokers=brokers) as shop:
            while waiting and waiting[0][1].brokers == brokers:
                number, scenario = waiting.pop(0)
                began = time.monotonic()
                result = await execute(scenario, shop, seed, number)
                results.append(result)
                verdict = "survived" if result.passed else f"NOT SURVIVED: {'; '.join(result.faults)}"
                seconds = time.monotonic() - began
                console.print(
                    f"{scenario.name}: {verdict} ({seconds:.0f} s)", highlight=False, soft_wrap=True
                )
                if result.hung:
                    break
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    seed = os.environ.get("CHAOS_SEED")  # empty: a new one
    parser.add_argument("--seed", type=int, default=int(seed) if seed else None, help="repeats a run")
    parser.add_argument("--only", default="", help="names of scenarios, comma-separated")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
