"""What comes is odd: in the wrong order, too much at once, or never answered."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from orderflow_sandbox.messages import OrderScenario
from tests.chaos.endless_scenarios import endless_scenarios
from tests.chaos.scenario import Run, Scenario
from tests.chaos.shop import CLAIM_SECONDS
from tests.chaos.waiting import until

_SHUFFLED = 60
_BURST_EVENTS = 10_000
_STALLS = 5


async def reordered_and_stale(run: Run) -> None:
    """Whole scenarios shuffled, every third of them with all its events twice: what is late is refused as stale."""
    await run.mid_load()
    delivered = _scenarios(run, "s")
    with run.fault():
        for number, scenario in enumerate(itertools.islice(delivered, _SHUFFLED)):
            messages = list(scenario.messages) * (2 if number % 3 == 0 else 1)
            run.rolls.shuffle(messages)
            await run.load.send(replace(scenario, messages=tuple(messages), name="shuffled"))


async def burst_from_zero(run: Run) -> None:
    """No stage has a process when 10,000 events come at one moment."""
    stages = ("validate", "track", "notify")
    run.load.paused = True
    await until(lambda: not any(run.shop.instances(stage) for stage in stages), "zero processes", seconds=120)
    scenarios: list[OrderScenario] = []
    events = 0
    for scenario in _scenarios(run, "b"):
        scenarios.append(scenario)
        events += len(scenario.messages)
        if events >= _BURST_EVENTS:
            break
    with run.fault():
        await run.load.send_at_once(scenarios)
    run.load.paused = False


def _scenarios(run: Run, mark: str) -> Iterator[OrderScenario]:
    return endless_scenarios(run.rolls.randrange(2**32), f"{run.prefix}{mark}", frozenset({"delivered"}))


async def mail_server_stalls(run: Run) -> None:
    """It takes the mail and does not say so until notify has given up: SMTP has no way to ask. Once the claim's
    lease is over, the mail goes out again with the same Message-ID."""
    await run.mid_load()
    with run.fault():
        async with run.shop.stand_ins.fault("smtp", "stall", _STALLS):
            await run.load.until_sent(CLAIM_SECONDS * 5)


SCENARIOS = [
    Scenario("reordered", "reordered, repeated and stale events", reordered_and_stale),
    Scenario("burst", "10,000 events to stages at zero", burst_from_zero, settle_seconds=600),
    Scenario("mail-stalls", "mail server silent after it accepted", mail_server_stalls, copies=_STALLS),
]
