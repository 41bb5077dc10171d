"""Track against a simple model of its results: events of every kind, in any order and any number of times, for two
workers at once, while processes die and servers fail."""

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

RECORD_REPLAY = """
INSERT INTO operator_actions (id, request, kind, order_id, by, detail, outcome, occurred_at)
VALUES (%s, 'r', 'replayed', %s, 'anna', json_build_object('source', %s::text, 'event_id', %s::text), 'sending', now())
ON CONFLICT DO NOTHING
"""
"""What shelve records before it sends an event again."""
PROFILES = {"quick": (150, 30), "deep": (10_000, 50)}
"""Examples and steps of each profile. HYPOTHESIS_PROFILE selects one."""
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")


class Pipeline(RuleBasedStateMachine):
    """Sends events and delivers them in any order, any number of times. At the end it delivers each event without an
    acknowledgement once more."""

    sent = Bundle("sent")

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        bench.examples += 1
        self.name = f"{bench.examples}"
        bench.execute("UPDATE waiting SET expires_at = now() + interval '1 day' WHERE expires_at < now()", [])
        self.broker = Broker()
        self.workers = [Worker(bench.store(number), self.broker) for number in range(3)]
        self.world, self.published = World(), PublishedEvents()
        self.cloudevents: dict[ModelEvent, CloudEvent] = {}
        self.acknowledged: set[ModelEvent] = set()
        self.overdue: set[tuple[Any, ...]] = set()
        self.excused: set[ParkedRecord] = set()

    @rule(target=sent, events=st.lists(model_events, min_size=1, max_size=5))
    def send(self, events: list[ModelEvent]) -> object:
        prefixed = [replace(event, order_id=f"{self.name}-{event.order_id}") for event in events]
        return multiple(*(self._send(event, self._new_id()) for event in prefixed))

    @rule(target=sent, before=sent, event=model_events)
    def send_under_the_same_id(self, before: ModelEvent, event: ModelEvent) -> ModelEvent:
        event = replace(event, order_id=f"{self.name}-{event.order_id}", source=before.source)
        return self._send(event, before.id)

    @rule(
        target=sent,
        before=sent,
        amount=st.sampled_from((0, 2900, 1450)),
        order_id=st.sampled_from(("", "a", "b")),
    )
    def replay(self, before: ModelEvent, amount: int, order_id: str) -> ModelEvent:
        """An operator replays the event unchanged, or with a corrected amount or order id."""
        corrections: dict[str, Any] = {"amount": amount, "currency": "EUR"} if amount else {}
        corrections |= {"order_id": f"{self.name}-{order_id}"} if order_id else {}
        return self._send(replace(before, **corrections, replay=self._new_id()), before.id)

    def _new_id(self) -> str:
        return f"{self.name}-{len(self.cloudevents)}"

    def _send(self, unsent: ModelEvent, event_id: str) -> ModelEvent:
        verdict = unsent.verdict if unsent.kind == "placed" else ""
        event = replace(unsent, id=event_id, verdict=verdict, total=PRICES.get(verdict, 0))
        cloudevent = validate(inbox_event(event), RULES)
        event = replace(event, digest=cloudevent.extensions["origindigest"])
        self.cloudevents[event] = cloudevent
        if event.replay:
            self.bench.execute(RECORD_REPLAY, [event.replay, event.order_id, *event.key])
        return event

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
        """Two workers handle events while a third parks the events that waited too long. together makes all workers
        read before any worker writes."""
        meeting = Meeting(1 + bool(second) + sweeping) if together else None
        self._prepare(trouble, meeting)
        steps = self.bench.runner.run(self._handle_at_once([first, second], meeting, sweeping=sweeping))
        # A copy that failed is delivered again, whatever the results of the event's other copies.
        self.acknowledged |= {step.event for step in steps if step.event}
        self.acknowledged -= {step.event for step in steps if step.event and step.doubtful}
        self._compare(tuple(steps))

    def _prepare(self, trouble: tuple[Fault, ...], meeting: Meeting | None) -> None:
        for number, fault in enumerate(trouble):
            if self.workers[number].dead:
                self.workers[number] = Worker(self.bench.store(number), self.broker)
            self.workers[number].prepare(replace(fault), meeting)

    async def _handle_at_once(
        self, batches: list[list[ModelEvent]], meeting: Meeting | None, *, sweeping: bool
    ) -> list[Step]:
        work = [self._handle(number, batch, meeting) for number, batch in enumerate(batches) if batch]
        sweep = [self._sweep(meeting)] if sweeping else []
        results = await asyncio.gather(*work, *sweep)
        return [step for steps in results for step in steps]

    async def _handle(self, number: int, batch: list[ModelEvent], meeting: Meeting | None) -> list[Step]:
        handle = self.workers[number].tracker.handle
        failures = await _failures(*(handle(self.cloudevents[event]) for event in batch))
        if meeting:
            meeting.leave()
        return [
            Step((number, event.order_id), event.key, event, doubtful=failed)
            for event, failed in zip(batch, failures, strict=True)
        ]

    async def _sweep(self, meeting: Meeting | None) -> list[Step]:
        await _failures(self.workers[2].tracker.sweep())
        if meeting:
            meeting.leave()
        parked_keys = self.workers[2].given_up
        return [Step((key,), key, doubtful=key not in parked_keys) for key in self.overdue]

    def _compare(self, steps: tuple[Step, ...]) -> None:
        """Some order of the steps must explain the rows of the database and the records of the topics."""
        before = self.world
        tables = self.bench.tables([f"{self.name}-{order_id}" for order_id in ("a", "b")])
        self.overdue = tables.pop("overdue")
        self.published.listen(self.broker.topics)
        parked_records = self.published.parked.keys()
        for world in outcomes(before, steps):
            if tables_of(world) == tables and world.parked <= parked_records:
                self.world = world
                break
        else:
            expected = next(outcomes(before, steps), before)
            expected_rows = tables_of(expected) | {"parked records": set(expected.parked)}
            actual_rows = tables | {"parked records": set(parked_records)}
            differing = {
                name: actual_rows[name] ^ rows
                for name, rows in expected_rows.items()
                if actual_rows[name] != rows
            }
            assert not differing, "no order of the events explains this"
        if excess := parked_records - self.world.parked:
            assert excess <= possible_parked_records(before, steps) | self.excused, "parked without a cause"
            self.excused |= excess
        self._check_announced_changes(steps)

    def _check_announced_changes(self, steps: tuple[Step, ...]) -> None:
        changes = self.published.changes
        assert changes.items() <= self.world.history.items(), "announced, and not in the history"
        # A stopped worker may have applied waiting events. The delivery of its own event then announces their changes.
        stopped = {step.event.order_id for step in steps if step.event and step.doubtful}
        for step in steps:
            entry = self.world.ledger.get(step.key)
            if not step.event or not entry or step.event.order_id in stopped:
                continue
            if entry.digest == step.event.digest and entry.first and entry.last:
                versions = range(entry.first, entry.last + 1)
                assert {(entry.order_id, version) for version in versions} <= changes.keys(), "not announced"

    @rule(index=st.integers(0, 5))
    def wait_too_long(self, index: int) -> None:
        waiting = sorted(self.world.waiting)
        if waiting and not self.overdue:
            key = waiting[index % len(waiting)]
            self.overdue = {key}
            self.bench.execute(
                "UPDATE waiting SET expires_at = now() - interval '1 s' WHERE source = %s AND id = %s", [*key]
            )

    @rule(index=st.integers(0, 5), gift=st.sampled_from(("", "yes")))
    def place_what_is_being_given_up(self, index: int, gift: str) -> None:
        """One worker parks a waiting event while another applies the event's order."""
        self.wait_too_long(index)
        unplaced = [self.world.waiting[key] for key in self.overdue]
        for early in unplaced:
            placing = ModelEvent(early.order_id, "placed", "/shop", "", early.time, "accepted", gift=gift)
            sent = self._send(placing, self._new_id())
            self.deliver([sent], [], (Fault(),) * 3, together=True, sweeping=True)

    @rule(index=st.integers(0, 5))
    def mend_for_two_orders_at_once(self, index: int) -> None:
        """Two operators replay one event at the same moment, each with another order id."""
        replayable = sorted(
            key for key, entry in self.world.ledger.items() if entry.outcome in {"parked", "refused"}
        )
        if replayable:
            key = replayable[index % len(replayable)]
            before = next(event for event in self.cloudevents if event.key == key)
            replays = [
                self._send(replace(before, order_id=f"{self.name}-{order_id}", replay=self._new_id()), key[1])
                for order_id in ("a", "b")
            ]
            self.deliver(replays[:1], replays[1:], (Fault(),) * 3, together=True, sweeping=False)

    def teardown(self) -> None:
        for event in [event for event in self.cloudevents if event not in self.acknowledged]:
            self.deliver([event], [], (Fault(),) * 3, together=False, sweeping=False)
        assert self.acknowledged == self.cloudevents.keys()
        assert self.published.changes == self.world.history, "changes that were not announced"
        assert {event.key for event in self.cloudevents} == self.world.ledger.keys(), "lost"
        if self.overdue:
            self._prepare((Fault(),) * 3, None)
            self.bench.runner.run(self.workers[2].tracker.sweep())
            self._compare(tuple(Step((key,), key) for key in self.overdue))


async def _failures(*handling: Awaitable[object]) -> list[bool]:
    """Whether each one failed by an injected fault or by repeated conflicts. Raises any other error."""
    results = await asyncio.gather(*handling, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, DiedError | TransientError):
            raise result
    return [isinstance(result, BaseException) for result in results]


@pytest.fixture
def bench(fresh_database: str) -> Iterator[Bench]:
    migrate(fresh_database)
    bench = Bench(fresh_database)
    yield bench
    bench.close()


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
