"""Track against a simple model of what it must bring about: events of every sort in any order, any number of times,
to two workers at once, while processes die and servers fail in between."""

import asyncio
import os
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, rule, run_state_machine_as_test
from support.faults import Broker, DiedError, Fault, Meeting, Worker
from support.model import ModelEvent, ParkedRecord, Step, World, outcomes, possible_parked_records
from support.model_events import PRICES, RULES, faults, inbox_event, model_events
from support.observed import Bench, PublishedEvents, tables_of

from orderflow.adapters.postgres.schema import migrate
from orderflow.errors import TransientError
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate.handler import validate

PROFILES = {"quick": (400, 30), "deep": (10_000, 50)}
"""Examples and steps of each. HYPOTHESIS_PROFILE chooses."""
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")


class Pipeline(RuleBasedStateMachine):
    """Events are sent and then delivered, in any order and as often as it comes, until at the end all that was
    not acknowledged is delivered once more."""

    sent = Bundle("sent")

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        bench.examples += 1
        self.name = f"{bench.examples}"
        bench.execute("UPDATE waiting SET expires_at = now() + interval '1 day' WHERE expires_at < now()", [])
        self.broker = Broker()
        self.workers = [Worker(bench.store(number), self.broker) for number in range(3)]
        self.world, self.heard = World(), PublishedEvents()
        self.wire: dict[ModelEvent, CloudEvent] = {}
        self.acknowledged: set[ModelEvent] = set()
        self.overdue: set[tuple[Any, ...]] = set()
        self.excused: set[ParkedRecord] = set()

    @rule(target=sent, some=st.lists(model_events, min_size=1, max_size=5))
    def send(self, some: list[ModelEvent]) -> object:
        named = [replace(each, order_id=f"{self.name}-{each.order_id}") for each in some]
        return multiple(*(self._send(each, self._new_id()) for each in named))

    @rule(target=sent, before=sent, other=model_events)
    def send_under_the_same_id(self, before: ModelEvent, other: ModelEvent) -> ModelEvent:
        other = replace(other, order_id=f"{self.name}-{other.order_id}", source=before.source)
        return self._send(other, before.id)

    @rule(
        target=sent,
        before=sent,
        amount=st.sampled_from((0, 2900, 1450)),
        order_id=st.sampled_from(("", "a", "b")),
    )
    def replay(self, before: ModelEvent, amount: int, order_id: str) -> ModelEvent:
        """An operator sends it again as it was, or with its money or its order mended."""
        mended: dict[str, Any] = {"amount": amount, "currency": "EUR"} if amount else {}
        mended |= {"order_id": f"{self.name}-{order_id}"} if order_id else {}
        return self._send(replace(before, **mended, replay=self._new_id()), before.id)

    def _new_id(self) -> str:
        return f"{self.name}-{len(self.wire)}"

    def _send(self, given: ModelEvent, event_id: str) -> ModelEvent:
        verdict = given.verdict if given.kind == "placed" else ""
        named = replace(given, id=event_id, verdict=verdict, total=PRICES.get(verdict, 0))
        wire = validate(inbox_event(named), RULES)
        named = replace(named, digest=wire.extensions["origindigest"])
        self.wire[named] = wire
        return named

    @rule(
        first=st.lists(sent, min_size=1, max_size=3),
        second=st.lists(sent, max_size=2),
        trouble=st.tuples(faults, faults, faults),
        together=st.booleans(),
        sweeping=st.booleans(),
    )
    def deliver(
        self,
        first: list[ModelEvent],
        second: list[ModelEvent],
        trouble: tuple[Fault, ...],
        together: bool,
        sweeping: bool,
    ) -> None:
        """By two workers, while a third parks what has waited too long; together: all read before anybody writes."""
        meeting = Meeting(1 + bool(second) + sweeping) if together else None
        self._prepare(trouble, meeting)
        steps = self.bench.runner.run(self._at_once([first, second], meeting, sweeping=sweeping))
        # A copy that failed comes again, whatever became of the others.
        self.acknowledged |= {step.event for step in steps if step.event}
        self.acknowledged -= {step.event for step in steps if step.event and step.doubtful}
        self._compare(tuple(steps))

    def _prepare(self, trouble: tuple[Fault, ...], meeting: Meeting | None) -> None:
        for number, fault in enumerate(trouble):
            if self.workers[number].dead:
                self.workers[number] = Worker(self.bench.store(number), self.broker)
            self.workers[number].prepare(replace(fault), meeting)

    async def _at_once(
        self, lots: list[list[ModelEvent]], meeting: Meeting | None, *, sweeping: bool
    ) -> list[Step]:
        work = [self._handle(number, lot, meeting) for number, lot in enumerate(lots) if lot]
        sweep = [self._sweep(meeting)] if sweeping else []
        done = await asyncio.gather(*work, *sweep)
        return [step for steps in done for step in steps]

    async def _handle(self, number: int, lot: list[ModelEvent], meeting: Meeting | None) -> list[Step]:
        handle = self.workers[number].tracker.handle
        answers = await _all(*(handle(self.wire[each]) for each in lot))
        if meeting:
            meeting.leave()
        return [
            Step((number, each.order_id), each.key, each, doubtful=failed)
            for each, failed in zip(lot, answers, strict=True)
        ]

    async def _sweep(self, meeting: Meeting | None) -> list[Step]:
        await _all(self.workers[2].tracker.sweep())
        if meeting:
            meeting.leave()
        given_up = self.workers[2].given_up
        return [Step((key,), key, doubtful=key not in given_up) for key in self.overdue]

    def _compare(self, steps: tuple[Step, ...]) -> None:
        """The database and the topics must be what the steps can have led to, in one order or another."""
        before = self.world
        tables = self.bench.tables([f"{self.name}-{order_id}" for order_id in ("a", "b")])
        self.overdue = tables.pop("overdue")
        self.heard.listen(self.broker.topics)
        letters = self.heard.parked.keys()
        for world in outcomes(before, steps):
            if tables_of(world) == tables and world.parked <= letters:
                self.world = world
                break
        else:
            expected = next(outcomes(before, steps), before)
            wanted = tables_of(expected) | {"letters": set(expected.parked)}
            found = tables | {"letters": set(letters)}
            differing = {name: found[name] ^ wanted[name] for name in wanted if found[name] != wanted[name]}
            assert not differing, "no order of the events explains this"
        if excess := letters - self.world.parked:
            assert excess <= possible_parked_records(before, steps) | self.excused, "parked without a cause"
            self.excused |= excess
        self._check_what_was_announced(steps)

    def _check_what_was_announced(self, steps: tuple[Step, ...]) -> None:
        told = self.heard.changes
        assert told.items() <= self.world.history.items(), "announced, and never happened"
        # Who was stopped may have applied what waited, and then it is for their event to announce that.
        stopped = {step.event.order_id for step in steps if step.event and step.doubtful}
        for step in steps:
            entry = self.world.ledger.get(step.key)
            if not step.event or not entry or step.event.order_id in stopped:
                continue
            if entry.digest == step.event.digest and entry.first and entry.last:
                versions = range(entry.first, entry.last + 1)
                assert {(entry.order_id, version) for version in versions} <= told.keys(), "not announced"

    @rule(which=st.integers(0, 5))
    def wait_too_long(self, which: int) -> None:
        waiting = sorted(self.world.waiting)
        if waiting and not self.overdue:
            key = waiting[which % len(waiting)]
            self.overdue = {key}
            self.bench.execute(
                "UPDATE waiting SET expires_at = now() - interval '1 s' WHERE source = %s AND id = %s", [*key]
            )

    @rule(which=st.integers(0, 5), gift=st.sampled_from(("", "yes")))
    def place_what_is_being_given_up(self, which: int, gift: str) -> None:
        """What waits for its order is parked and follows its order at the same moment."""
        self.wait_too_long(which)
        unplaced = [self.world.waiting[key] for key in self.overdue]
        for early in unplaced:
            placing = ModelEvent(early.order_id, "placed", "/shop", "", early.time, "accepted", gift=gift)
            sent = self._send(placing, self._new_id())
            self.deliver([sent], [], (Fault(),) * 3, together=True, sweeping=True)

    @rule(which=st.integers(0, 5))
    def mend_for_two_orders_at_once(self, which: int) -> None:
        """Two operators send one event again at the same moment, each under another order."""
        undone = sorted(
            key for key, entry in self.world.ledger.items() if entry.outcome in {"parked", "refused"}
        )
        if undone:
            key = undone[which % len(undone)]
            before = next(each for each in self.wire if each.key == key)
            both = [
                self._send(replace(before, order_id=f"{self.name}-{order_id}", replay=self._new_id()), key[1])
                for order_id in ("a", "b")
            ]
            self.deliver(both[:1], both[1:], (Fault(),) * 3, together=True, sweeping=False)

    def teardown(self) -> None:
        for each in [each for each in self.wire if each not in self.acknowledged]:
            self.deliver([each], [], (Fault(),) * 3, together=False, sweeping=False)
        assert self.acknowledged == self.wire.keys()
        assert self.heard.changes == self.world.history, "what happened and was not announced"
        assert {each.key for each in self.wire} == self.world.ledger.keys(), "lost"
        if self.overdue:
            self._prepare((Fault(),) * 3, None)
            self.bench.runner.run(self.workers[2].tracker.sweep())
            self._compare(tuple(Step((key,), key) for key in self.overdue))


async def _all(*doing: Awaitable[object]) -> list[bool]:
    """Which of them failed, as they may: told to, or because others were quicker again and again."""
    answers = await asyncio.gather(*doing, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, DiedError | TransientError):
            raise answer
    return [isinstance(answer, BaseException) for answer in answers]


@pytest.fixture
def bench(fresh_database: str) -> Iterator[Bench]:
    migrate(fresh_database)
    found = Bench(fresh_database)
    yield found
    found.close()


@pytest.mark.timeout(4 * 3600 if PROFILE == "deep" else 900)
def test_whatever_comes_in_whatever_order_and_whoever_dies_the_model_explains_what_is_there(
    bench: Bench,
) -> None:
    examples, steps = PROFILES[PROFILE]
    run_state_machine_as_test(
        lambda: Pipeline(bench),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=PROFILE == "quick",
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
