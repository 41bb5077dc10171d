"""Runs one scenario from the first order to the last account."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos import audit
from tests.chaos.account import Account, account, parked_before, recovered_after
from tests.chaos.endless_scenarios import endless_scenarios
from tests.chaos.groups import Groups
from tests.chaos.journal import Journal
from tests.chaos.load import Load
from tests.chaos.scenario import AUDITS, Run, Scenario
from tests.chaos.shop import Shop

ORDERS_PER_SECOND = 10.0
_AFTER = 20
"""Orders that are sent once the fault is over."""


@dataclass
class Result:
    """faults are sentences: why the scenario did not pass. republished is what the audit made good, false_alarms what
    it called missing although the effect was there."""

    scenario: Scenario
    account: Account = field(default_factory=Account)
    recovered: float | None = None
    republished: int = 0
    false_alarms: int = 0
    notified_again: int = 0
    faults: list[str] = field(default_factory=list)
    hung: bool = False

    @property
    def allowed(self) -> int:
        """Notifications that may have gone out twice."""
        return self.scenario.copies * self.scenario.runs + self.notified_again

    @property
    def passed(self) -> bool:
        return not self.faults


async def execute(scenario: Scenario, shop: Shop, seed: int, number: int) -> Result:
    rolls = random.Random(f"{seed} {scenario.name}")  # noqa: S311 - not for secrets
    result = Result(scenario)
    prefix = f"c{seed}-{number:02}"
    journal = Journal(shop.state / "books" / f"{scenario.name}.sqlite")
    groups = Groups(shop.bootstrap)
    before = await asyncio.to_thread(parked_before, shop.database)
    for _ in shop.stand_ins.news():
        pass
    scenarios = endless_scenarios(rolls.randrange(2**32), prefix, scenario.kinds)
    load = Load(shop.intake, shop.bootstrap, journal, scenarios, ORDERS_PER_SECOND)
    run = Run(scenario, shop, load, journal, groups, rolls, prefix)
    try:
        await _under_load(run)
        await groups.until_settled(scenario.settle_seconds)
        await examine(run, result, before)
    except* Exception as errors:  # noqa: BLE001 - whatever it is, it is this scenario's, and the others go on
        result.hung = True
        result.faults += [f"{type(error).__name__}: {error}" for error in flat(errors)]
    finally:
        journal.close()
    return result


async def examine(run: Run, result: Result, before: list[str]) -> None:
    """Once all is settled: the audit, the accounts and the judgement. before is what was parked at the start."""
    await _audit(run, result)
    run.journal.receive(run.shop.stand_ins.news())
    result.account = account(run.journal, run.shop.database, run.prefix, before)
    if run.times:
        result.recovered = max(recovered_after(run.journal, *times) for times in run.times)
    result.notified_again = run.notified_again
    _judge_audits(run, result)
    _judge(result)
    result.faults += run.missed


def flat(errors: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from flat(error)
        else:
            yield error


async def _under_load(run: Run) -> None:
    """The load goes on until the fault is over, and some more."""
    async with asyncio.TaskGroup() as group:
        group.create_task(run.load.run())
        try:
            await run.scenario.strike(run)
            await run.load.until_sent(_AFTER)
        finally:
            run.load.end()


async def _audit(run: Run, result: Result) -> None:
    """Runs the audit until it finds nothing missing; where nothing can have been dropped, at once."""
    for _ in range(AUDITS):
        finding = await run.audit()
        if finding.code == audit.COMPLETE or not finding.report:
            return
        await run.groups.until_settled(run.scenario.settle_seconds)
    result.faults.append(f"after {AUDITS} runs the audit still says {finding.state}: {finding.notes}")


def _judge_audits(run: Run, result: Result) -> None:
    """Every run of the audit, those under load too."""
    scenario = run.scenario
    for finding in run.findings:
        if not finding.report:
            result.faults.append(f"the audit ended with {finding.code}: {finding.trouble}")
        result.republished += finding.missing
        if finding.missing and not scenario.mends:
            missing = [f"{each['topic']} {each['reason']} {each['id']}" for each in finding.report["missing"]]
            result.faults.append(f"the audit found missing: {', '.join(missing[:5])}")
        if finding.state == "unjudged" and not scenario.names:
            result.faults.append(f"the audit could not judge everything: {finding.notes}")
    result.false_alarms = len(run.false_alarms)
    if run.false_alarms:
        result.faults.append(
            f"{len(run.false_alarms)} falsely called missing: {', '.join(run.false_alarms[:5])}"
        )
    naming = [each for each in run.findings if any(scenario.names in note for note in each.notes)]
    if scenario.names and (len(naming) != 1 or naming[0].code == audit.COMPLETE):
        states = ", ".join(f"{each.state} {each.notes}" for each in run.findings)
        result.faults.append(f"one run of the audit should have named '{scenario.names}': {states}")


def _judge(result: Result) -> None:
    totals = result.account
    if totals.losses:
        result.faults.append(f"{totals.losses} lost")
    if totals.effects_twice:
        result.faults.append(f"{totals.effects_twice} effects doubled")
    if totals.sent_twice > result.allowed:
        result.faults.append(f"{totals.sent_twice} notifications twice, where {result.allowed} may be")
    if result.notified_again and totals.most_sent > 2:
        result.faults.append(f"a notification went out {totals.most_sent} times, where once more may be")
    if totals.parked_wrongly or totals.parks_found != totals.parks_due:
        result.faults.append(f"{totals.parks_found} parked, where {totals.parks_due} are due")
    if result.scenario.mends and not result.republished:
        result.faults.append("nothing was dropped, so that the audit had nothing to prove")
    result.faults += [f"{what}: {', '.join(named)}" for what, named in totals.named.items()]
