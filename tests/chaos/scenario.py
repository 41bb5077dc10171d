"""What a scenario is, and what its fault can reach while it runs."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.chaos import audit
from tests.chaos.audit import Finding
from tests.chaos.errors import FaultError
from tests.chaos.groups import Groups
from tests.chaos.journal import Journal, now
from tests.chaos.load import Load
from tests.chaos.shop import Shop
from tests.chaos.waiting import until

KINDS = frozenset(
    {
        "delivered",
        "on its way",
        "not paid yet",
        "everything twice",
        "out of order",
        "declined, then paid",
        "cancelled",
        "late payment of a cancelled order",
        "returned, refunded in two parts",
        "cancelled after it left",
        "held for review",
        "rejected, three reasons",
        "malformed, over Kafka",
        "same id, other content",
    }
)
"""Scenarios of orderflow_sandbox.scenarios whose end does not depend on how often anything is sent."""
MENDABLE = KINDS - {"cancelled after it left", "same id, other content", "out of order"}
"""Those that end the same where any of their events comes after all others. What a producer itself sends out of order
does not: an event that was dropped and published again after a later one of its source is parked as overtaken."""
SHORTEST, LONGEST = 15, 45
"""Orders that are told before a fault strikes."""
STRUCK_SECONDS = 90.0
AUDITS = 8
"""Runs of the audit in which it has to become complete."""


@dataclass(frozen=True)
class Scenario:
    """copies is how many notifications one run may send twice, where the other side's protocol allows no better.
    mends: the audit has to find something missing, and to make it good. names: what one run of the audit has to name
    in its notes, and what it then cannot judge; no other scenario may leave it anything unjudged."""

    name: str
    fault: str
    strike: "Callable[[Run], Awaitable[None]]"
    runs: int = 1
    copies: int = 0
    kinds: frozenset[str] = KINDS
    mends: bool = False
    names: str = ""
    brokers: int = 1
    settle_seconds: float = 180.0
    needs_root: bool = False


@dataclass
class Run:
    """One scenario under way. rolls are seeded by the run's seed and the scenario's name."""

    scenario: Scenario
    shop: Shop
    load: Load
    journal: Journal
    groups: Groups
    rolls: random.Random
    prefix: str
    times: list[tuple[float, float]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """What a fault should have shown and did not, in sentences."""
    findings: list[Finding] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    """What the audit called missing although its effect was there."""
    notified_again: int = 0
    """Notifications that may go out once more, in all runs together."""

    async def mid_load(self) -> None:
        await self.load.until_sent(self.rolls.randint(SHORTEST, LONGEST))

    async def settle(self) -> None:
        """Lets nothing new come until all that came is done."""
        self.load.paused = True
        await self.groups.until_settled(self.scenario.settle_seconds)
        self.load.paused = False

    async def audit(self) -> Finding:
        """One run of the audit, judged at the end of the scenario."""
        finding = await audit.run(self.shop)
        self.findings.append(finding)
        self.false_alarms += await asyncio.to_thread(audit.false_alarms, finding, self.shop.database)
        return finding

    async def audit_until_complete(self) -> None:
        """Lets the audit learn the logs as they are now."""
        await self.settle()
        for _ in range(AUDITS):
            await pause(audit.GRACE_SECONDS + 0.5)
            if (await self.audit()).code == audit.COMPLETE:
                return
        raise FaultError("the audit was not complete before the fault")

    @contextlib.contextmanager
    def fault(self) -> Iterator[None]:
        began = now()
        yield
        self.times.append((began, now()))

    @contextlib.asynccontextmanager
    async def faulty(self, stage: str, *, processes: int = 0) -> AsyncIterator[None]:
        """While the block lasts, the stage runs from tests/chaos/faulty."""
        await self.shop.apply(stage, faulty=True, processes=processes)
        try:
            yield
        finally:
            await self.shop.apply(stage)

    async def strike_at(self, stage: str, point: str, how: signal.Signals = signal.SIGKILL) -> int:
        """Strikes the process of the stage that reaches the point next; returns its process id."""
        trigger = self.shop.triggers / f"{stage}.{point}"
        unarmed = trigger.with_name(f".{trigger.name}")
        unarmed.write_text(how.name.removeprefix("SIG"))
        unarmed.rename(trigger)
        pattern = f"{stage}.{point}.struck-*"
        await until(
            lambda: any(self.shop.triggers.glob(pattern)), f"{stage} at '{point}'", seconds=STRUCK_SECONDS
        )
        (struck,) = self.shop.triggers.glob(pattern)
        struck.unlink()
        return int(struck.name.rpartition("-")[2])


def end(process_id: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Sends the signal; a process that has ended by itself is none to be sent any."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, how)


async def pause(seconds: float) -> None:
    """How long a fault lasts."""
    await asyncio.sleep(seconds)
