"""One order, whatever comes late, twice or again: what took effect is what the true sequence of those events gives.

Two sources write the order's events into one partition: a shop, whose events change the status, and a bank, whose
events change the payment. Each source's events have one true sequence: the shop's that of the log, the bank's that of
its numbers, which the log may have the other way round. Events are delivered in the log's sequence, or dropped and
published again later; they are delivered twice; parked ones are replayed and edited, and those are delivered twice too.
Some producers write `replay` into their events, which counts for nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.events import event, placed
from support.tracked_order import TrackedOrder

from orderflow.domain import lifecycle
from orderflow.domain.lifecycle import OrderState, Outcome
from orderflow.domain.rules import Rules
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision
from orderflow.track.decision import Arrival, Plan
from orderflow.validate.handler import validate

STATUS_KINDS = ("held", "released", "cancelled", "packed", "shipped", "delivered", "returned")
PAYMENT_KINDS = ("authorised", "paid", "declined", "refunded")
AMOUNTS = (2900, 2900, 1450)
Delivery = tuple[CloudEvent, int, dict[str, str]]
"""An event, the offset of its record, and what else the record says."""


@dataclass
class Record:
    """An event in the log.

    content is what was last decided of it; turn is its number in the true sequence. late: a later event of its source
    was decided before.
    """

    content: CloudEvent
    offset: int
    turn: int
    delivered: bool = False
    late: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.content.source, self.content.id


class LateEvents(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.order = TrackedOrder()
        self.order.forged = {"forged"}
        self.log: list[Record] = []
        self.next = 0
        self.deliveries: list[Delivery] = []
        self.letters: dict[tuple[str, str], str] = {}
        self.insisted = False
        self.actions = 0

    @initialize(
        kinds=st.lists(st.sampled_from(PAYMENT_KINDS), max_size=3), shuffled=st.randoms(use_true_random=False)
    )
    def begin(self, kinds: list[str], shuffled: Any) -> None:
        """What the bank says of the order may be in the log before the order."""
        self.the_bank_sends(kinds, 2900, shuffled)
        self._append(placed("o-1"), len(self.log))

    def _append(self, sent: CloudEvent, turn: int) -> None:
        """Later events have lower ids, and all have the same time: neither tells their sequence."""
        named = replace(sent, id=f"{999 - len(self.log)}", source=sent.source)
        self.log.append(Record(named, len(self.log) + 1, turn))

    @rule(kinds=st.lists(st.sampled_from(STATUS_KINDS), min_size=1, max_size=4))
    def the_shop_sends(self, kinds: list[str]) -> None:
        for kind in kinds:
            self._append(event(kind, "o-1", source="/shop"), len(self.log))

    @rule(
        kinds=st.lists(st.sampled_from(PAYMENT_KINDS), min_size=1, max_size=3),
        amount=st.sampled_from(AMOUNTS),
        shuffled=st.randoms(use_true_random=False),
    )
    def the_bank_sends(self, kinds: list[str], amount: int, shuffled: Any) -> None:
        turns = [(len(self.log) + number, kind) for number, kind in enumerate(kinds)]
        shuffled.shuffle(turns)
        for turn, kind in turns:
            data: dict[str, Any] = {} if kind == "declined" else {"amount": amount, "currency": "EUR"}
            sent = event(kind, "o-1", data, source="/bank")
            self._append(sent.with_extensions(sequence=str(turn)), turn)

    @precondition(lambda self: self.next < len(self.log))
    @rule(
        dropped=st.sampled_from((False, False, True)),
        count=st.sampled_from((1, 1, 2, 4)),
        more=st.sampled_from(({}, {}, {"replay": "forged"})),
    )
    def deliver(self, count: int, more: dict[str, str], *, dropped: bool) -> None:
        for record in self.log[self.next : self.next + count]:
            self.next += 1
            if not dropped:
                self._take(record, record.content, record.offset, **more)

    @precondition(lambda self: any(not each.delivered for each in self.log[: self.next]))
    @rule(data=st.data())
    def publish_what_was_dropped(self, data: st.DataObject) -> None:
        """As the audit does."""
        dropped = [each for each in self.log[: self.next] if not each.delivered]
        record = data.draw(st.sampled_from(dropped))
        self._take(record, record.content, self._end(), firstplace=self._place(record))

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def publish_what_was_not_missing(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from([each for each in self.log if each.delivered]))
        self._take(record, self._first_content(record), self._end(), firstplace=self._place(record))

    def _first_content(self, record: Record) -> CloudEvent:
        return next(sent for sent, _, _ in self.deliveries if (sent.source, sent.id) == record.key)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        sent, offset, more = data.draw(st.sampled_from(self.deliveries))
        plan = self.order.take(sent, offset, **more)
        assert plan.outcome == "duplicate", "it was decided before"
        assert "event_id_reused" not in codes(plan)

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), mended=st.booleans(), times=st.integers(1, 2))
    def replay(self, data: st.DataObject, times: int, *, mended: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.letters)))
        record = next(each for each in self.log if each.key == key)
        code = self.letters.pop(key)
        content = record.content
        if mended and b"amount" in content.data:
            content = replace(content, data=json.dumps({"amount": 2900, "currency": "EUR"}).encode())
        self.actions += 1
        more = {"replay": f"a-{self.actions}"}
        if code == "overtaken":
            self.insisted = True
        else:
            more["firstplace"] = self._place(record)
        for _ in range(times):
            self._take(record, content, self._end(), **more)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), mended=st.booleans())
    def forge_a_replay(self, data: st.DataObject, *, mended: bool) -> None:
        sent, _, _ = data.draw(st.sampled_from(self.deliveries))
        if mended and b"amount" in sent.data:
            sent = replace(sent, data=json.dumps({"amount": 1, "currency": "EUR"}).encode())
        before = self.order.snapshot
        plan = self.order.take(sent, self._end(), replay="forged")
        assert (plan.outcome, self.order.snapshot) == ("duplicate", before)

    def _end(self) -> int:
        """Behind everything that is in the log."""
        return 10_000 + len(self.deliveries)

    @staticmethod
    def _place(record: Record) -> str:
        return f"inbox-id:0:{record.offset}"

    def _take(self, record: Record, content: CloudEvent, offset: int, **more: str) -> None:
        before = self.order.snapshot
        late = any(
            self._is_decided(each) and each.turn > record.turn
            for each in self.log
            if _same_source(each, record)
        )
        plan = self.order.take(content, offset, **more)
        self.deliveries.append((content, offset, more))
        record.delivered = True
        if plan.writes:
            record.content, record.late = content, late
        assert "event_id_reused" not in codes(plan)
        for parked in plan.parked:
            data = json.loads(parked.data)
            attributes = data["attributes"]
            self.letters[attributes["originsource"], attributes["originid"]] = data["reasons"][0]["code"]
        self._check(plan, before.state, self.order.snapshot.state)

    def _is_decided(self, record: Record) -> bool:
        entry = self.order.entries.get(record.key)
        return entry is not None and entry.outcome in {Outcome.APPLIED, Outcome.REFUSED}

    @staticmethod
    def _check(plan: Plan, before: OrderState | None, after: OrderState | None) -> None:
        if plan.outcome != "applied":
            assert (after, plan.changes) == (before, [])
        overtaken = [entry for entry in plan.entries if entry.reason and entry.reason.code == "overtaken"]
        assert overtaken in ([], plan.entries[:1]), "only what has just come can be overtaken"

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        entries = self.order.entries
        assert entries.keys() == {record.key for record in self.log if record.delivered}
        applied = {key for key, entry in entries.items() if entry.outcome is Outcome.APPLIED}
        history = [(change.source, change.id) for change in self.order.changes]
        assert sorted(applied) == sorted(history)
        assert {key for key, entry in entries.items() if entry.outcome is Outcome.WAITING} == set(
            self.order.waiting
        )

    @invariant()
    def what_took_effect_gives_the_same_in_its_true_sequence(self) -> None:
        """Until an operator has insisted on an overtaken event. An event that was refused because it was late counts
        for nothing."""
        if self.insisted:
            return
        effective = []
        for record in self.log:
            entry = self.order.entries.get(record.key)
            outcome = entry.outcome if entry else None
            in_time = outcome is Outcome.REFUSED and not record.late
            if in_time or outcome in {Outcome.APPLIED, Outcome.WAITING}:
                effective.append(record)
        state = self.order.snapshot.state
        assert run(sorted(effective, key=lambda record: record.turn)) == state


def _same_source(one: Record, other: Record) -> bool:
    return one.content.source == other.content.source


def codes(plan: Plan) -> list[str]:
    return [json.loads(parked.data)["reasons"][0]["code"] for parked in plan.parked]


def run(records: Iterable[Record]) -> OrderState | None:
    """The state after events that come in sequence, each once. What is too early waits."""
    state: OrderState | None = None
    waiting: list[Arrival] = []
    for record in records:
        waiting.append(decision.read(validate(record.content, Rules())))
        changed = True
        while changed:
            changed = False
            for each in list(waiting):
                decided = lifecycle.decide(state, each.fact, each.digest, each.content_digest)
                if decided.outcome is Outcome.WAITING:
                    continue
                waiting.remove(each)
                if decided.outcome is Outcome.APPLIED:
                    state, changed = decided.state, True
                    break
    return state


def test_late_events_leave_what_their_true_sequence_gives() -> None:
    run_state_machine_as_test(
        LateEvents,
        settings=settings(max_examples=300, stateful_step_count=30, deadline=None, derandomize=True),
    )
