"""A second, minimal implementation of the order lifecycle. Tests compare the real implementation with it.

It is written from the README's table and imports nothing of the domain. A world is all that the database and
the parked topic should say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

MOVES = {
    "held": {"accepted": "held", "packed": "held"},
    "released": {"held": "what it was"},
    "cancelled": dict.fromkeys(("held", "accepted", "packed"), "cancelled"),
    "packed": {"accepted": "packed"},
    "shipped": dict.fromkeys(("accepted", "packed"), "shipped"),
    "delivered": {"shipped": "delivered"},
    "returned": dict.fromkeys(("shipped", "delivered"), "returned"),
    "authorised": dict.fromkeys(("unpaid", "failed"), "authorised"),
    "paid": dict.fromkeys(("unpaid", "authorised", "failed"), "paid"),
    "declined": dict.fromkeys(("unpaid", "authorised"), "failed"),
    "refunded": {"paid": "paid or refunded"},
}
WAITS = {
    "packed": {"held"},
    "shipped": {"held"},
    "delivered": {"held", "accepted", "packed"},
    "returned": {"held", "accepted", "packed"},
    "refunded": {"unpaid", "authorised", "failed"},
}
TOO_LATE = {
    "held": {"held"},
    "released": {"accepted", "packed", "shipped", "delivered"},
    "cancelled": {"cancelled", "rejected"},
    "packed": {"packed", "shipped", "delivered", "returned"},
    "shipped": {"shipped", "delivered", "returned"},
    "delivered": {"delivered", "returned"},
    "returned": {"returned"},
    "authorised": {"authorised", "paid", "refunded"},
    "paid": {"paid", "refunded"},
    "declined": {"failed", "paid", "refunded"},
    "refunded": set(),
}
PAYMENTS = {"authorised", "paid", "declined", "refunded"}
MONEY = {"authorised", "paid", "refunded"}

Key = tuple[str, str]
"""source and id of the originating event."""
ParkedRecord = tuple[str, str, str, str, str]
"""source, id, order, digest and why."""


@dataclass(frozen=True)
class ModelEvent:
    """An originating event. verdict is what validation must make of a placed one; total and amount are its money."""

    order_id: str
    kind: str
    source: str
    id: str
    time: str
    verdict: str = ""
    total: int = 0
    amount: int = 0
    currency: str = "EUR"
    gift: str = ""
    digest: str = ""
    replay: str = ""

    @property
    def key(self) -> Key:
        return self.source, self.id

    def parked_record(self, why: str) -> ParkedRecord:
        return self.source, self.id, self.order_id, self.digest, why


@dataclass(frozen=True)
class Order:
    status: str
    digest: str
    total: int
    payment: str = "unpaid"
    captured: int = 0
    refunded: int = 0
    was: str = ""
    version: int = 1


@dataclass(frozen=True)
class Entry:
    """A ledger row; first and last are the versions that the event brought about. replays were decided, former are the
    digests of contents that an edit replaced."""

    order_id: str
    kind: str
    digest: str
    outcome: str
    why: str = ""
    first: int | None = None
    last: int | None = None
    replays: tuple[str, ...] = ()
    former: tuple[str, ...] = ()


@dataclass
class World:
    """waiting holds the events themselves, history what each version of an order is."""

    orders: dict[str, Order] = field(default_factory=dict)
    ledger: dict[Key, Entry] = field(default_factory=dict)
    waiting: dict[Key, ModelEvent] = field(default_factory=dict)
    history: dict[tuple[str, int], tuple[object, ...]] = field(default_factory=dict)
    parked: frozenset[ParkedRecord] = frozenset()

    def copy(self) -> World:
        return World(
            dict(self.orders), dict(self.ledger), dict(self.waiting), dict(self.history), self.parked
        )

    def take(self, event: ModelEvent) -> None:
        """What one delivery of the event must bring about."""
        entry = self.ledger.get(event.key)
        undecided = event.replay and entry and event.replay not in entry.replays
        if entry and not (undecided and entry.outcome in {"parked", "refused"}):
            if entry.digest != event.digest:
                if event.digest not in entry.former:
                    self.parked |= {event.parked_record("event_id_reused")}
            elif entry.outcome == "parked":
                self.parked |= {event.parked_record(entry.why)}
            return
        if self._decide(event) == "applied":
            first = self.orders[event.order_id].version
            while any(self._decide(early) for early in self._early(event.order_id)):
                pass
            last = self.orders[event.order_id].version
            self.ledger[event.key] = replace(self.ledger[event.key], first=first, last=last)
        if event.replay:
            self._remember(event, entry)

    def _remember(self, event: ModelEvent, before: Entry | None) -> None:
        replays, former = (before.replays, before.former) if before else ((), ())
        if before and before.digest not in (event.digest, *former):
            former = (*former, before.digest)
        entry = replace(self.ledger[event.key], replays=(*replays, event.replay), former=former)
        self.ledger[event.key] = entry

    def give_up(self, key: Key) -> None:
        """The event has waited too long."""
        event = self.waiting.pop(key, None)
        if event:
            self._enter(event, "parked", "waited_too_long")

    def _early(self, order_id: str) -> list[ModelEvent]:
        early = [event for event in self.waiting.values() if event.order_id == order_id]
        return sorted(early, key=lambda event: (event.time, event.source, event.id))

    def _decide(self, event: ModelEvent) -> str:
        """Empty where an event that waits goes on waiting."""
        outcome, why = self._judge(event)
        if outcome == "waiting" and event.key in self.waiting:
            return ""
        self.waiting.pop(event.key, None)
        if outcome == "waiting":
            self.waiting[event.key] = event
        if outcome == "applied":
            self._apply(event)
        else:
            self._enter(event, outcome, why)
        return outcome

    def _judge(self, event: ModelEvent) -> tuple[str, str]:
        order = self.orders.get(event.order_id)
        if event.kind == "placed":
            if order is None:
                return "applied", ""
            same = order.digest == event.digest
            return ("refused", "already_placed") if same else ("parked", "order_id_reused")
        if order is None:
            return "waiting", "order_unknown"
        if trouble := _money_trouble(order, event):
            return "parked", trouble
        now = order.payment if event.kind in PAYMENTS else order.status
        if now in MOVES[event.kind]:
            return "applied", ""
        if now in WAITS.get(event.kind, ()):
            return "waiting", "too_early"
        if now in TOO_LATE[event.kind]:
            return "refused", "stale"
        return "parked", "forbidden_transition"

    def _apply(self, event: ModelEvent) -> None:
        before = self.orders.get(event.order_id)
        if before is None:
            after = Order(event.verdict, event.digest, event.total)
        else:
            after = replace(_moved(before, event), version=before.version + 1)
        self.orders[event.order_id] = after
        money = (after.captured, after.refunded)
        self.history[event.order_id, after.version] = (
            *event.key,
            event.verdict or event.kind,
            after.status,
            after.payment,
            *money,
        )
        self._enter(event, "applied", "", after.version)

    def _enter(self, event: ModelEvent, outcome: str, why: str, version: int | None = None) -> None:
        kind = event.verdict or event.kind
        now = self.ledger.get(event.key)
        replays, former = (now.replays, now.former) if now else ((), ())
        entry = Entry(event.order_id, kind, event.digest, outcome, why, version, version, replays, former)
        self.ledger[event.key] = entry
        if outcome == "parked":
            self.parked |= {event.parked_record(why)}


def _money_trouble(order: Order, event: ModelEvent) -> str:
    if event.kind not in MONEY:
        return ""
    if event.currency != "EUR":
        return "currency_mismatch"
    if event.kind != "refunded":
        return "" if event.amount == order.total else "amount_mismatch"
    paid = order.payment in {"paid", "refunded"}
    return "refund_exceeds_payment" if paid and event.amount > order.captured - order.refunded else ""


def _moved(order: Order, event: ModelEvent) -> Order:
    if event.kind == "paid":
        return replace(order, payment="paid", captured=event.amount)
    if event.kind == "refunded":
        back = order.refunded + event.amount
        return replace(order, refunded=back, payment="refunded" if back == order.captured else "paid")
    if event.kind in PAYMENTS:
        return replace(order, payment=MOVES[event.kind][order.payment])
    if event.kind == "released":
        return replace(order, status=order.was or "accepted", was="")
    if event.kind == "held":
        return replace(order, status="held", was="packed" if order.status == "packed" else "")
    return replace(order, status=MOVES[event.kind][order.status], was="")


@dataclass(frozen=True)
class Step:
    """Something that went on at the same moment as other things: a delivery or, without an event, the giving up
    of what waits under the key. Steps of one lane take effect in their order; a doubtful one may have had none.
    """

    lane: tuple[object, ...]
    key: Key
    event: ModelEvent | None = None
    doubtful: bool = False

    def on(self, world: World) -> World:
        after = world.copy()
        if self.event:
            after.take(self.event)
        else:
            after.give_up(self.key)
        return after


def outcomes(world: World, steps: tuple[Step, ...]) -> Iterator[World]:
    """Every world that the steps may end in, whichever of them took effect first. The likeliest comes first."""
    if not steps:
        yield world
    begun: set[tuple[object, ...]] = set()
    for number, step in enumerate(steps):
        if step.lane in begun:
            continue
        begun.add(step.lane)
        rest = steps[:number] + steps[number + 1 :]
        if step.event or step.doubtful or step.key in world.waiting:  # what was surely given up was waiting
            yield from outcomes(step.on(world), rest)
        if step.doubtful:
            yield from outcomes(world, rest)


def possible_parked_records(world: World, steps: tuple[Step, ...]) -> frozenset[ParkedRecord]:
    """Every parked record that the steps may have published, also by workers that were stopped before their commit."""
    records = world.parked
    for number, step in enumerate(steps):
        rest = steps[:number] + steps[number + 1 :]
        after = step.on(world)
        records |= possible_parked_records(after, rest) | possible_parked_records(world, rest)
    return records
