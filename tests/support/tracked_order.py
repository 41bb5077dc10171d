"""One order as the database holds it, without a database: what track decides of the events that are delivered."""

from dataclasses import replace

from orderflow.domain.rules import Rules
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.status_event import Change
from orderflow.track import decision
from orderflow.track.decision import Arrival, LedgerEntry, Plan, Snapshot
from orderflow.validate.handler import validate


def after(plan: Plan, known: Snapshot | None = None) -> Snapshot:
    """What the database knows once a plan is written."""
    before = known or Snapshot()
    return Snapshot(
        plan.lock + 1,
        plan.state or before.state,
        plan.document,
        waiting=before.waiting,
        decided=plan.decided,
    )


class TrackedOrder:
    """Gives each event its place in the inbox, lets validate pass it on, and keeps what track writes."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.entries: dict[tuple[str, str], LedgerEntry] = {}
        self.waiting: dict[tuple[str, str], Arrival] = {}
        self.changes: list[Change] = []
        self.forged: set[str] = set()
        """The values of `replay` that the operators' table does not have."""
        self._last = 0

    def take(self, sent: CloudEvent, offset: int | None = None, **extensions: str) -> Plan:
        """Delivers an event that lies at that offset of the inbox, None: at the end."""
        self._last = max(self._last + 1, offset or 0)
        at = {"knativekafkapartition": "0", "knativekafkaoffset": str(offset or self._last)}
        delivered = sent.with_extensions(**at, **extensions).delivered_from("inbox-id")
        return self._decide(decision.read(validate(delivered, Rules())))

    def take_late(self, sent: CloudEvent, first_offset: int, **extensions: str) -> Plan:
        """Delivers an event that is published again; its first record is at that offset."""
        return self.take(sent, firstplace=f"inbox-id:0:{first_offset}", **extensions)

    def _decide(self, arrival: Arrival) -> Plan:
        key = arrival.source, arrival.id
        entry = self.entries.get(key)
        first, last = (entry.versions if entry else None) or (1, 0)
        known = replace(
            self.snapshot,
            entry=entry,
            changes=tuple(self.changes[first - 1 : last]),
            waiting=tuple(self.waiting.values()),
            replay_known=arrival.replay is not None and arrival.replay not in self.forged,
        )
        plan = decision.plan(arrival, known, "r")
        for each in plan.entries:
            self.entries[each.source, each.id] = each
            self.waiting.pop((each.source, each.id), None)
        if plan.waits:
            self.waiting[key] = plan.arrival
        self.changes += plan.changes
        if plan.writes:
            self.snapshot = after(plan, self.snapshot)
        return plan

    @property
    def status(self) -> str:
        assert self.snapshot.state is not None
        return self.snapshot.state.status.value

    @property
    def payment(self) -> str:
        assert self.snapshot.state is not None
        return self.snapshot.state.payment.value
