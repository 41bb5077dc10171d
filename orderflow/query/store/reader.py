"""Everything that query reads from PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.deadlines import GapLimits, StuckLimits
from orderflow.query.store import (
    action_results,
    attention,
    audits,
    counts,
    orders,
    parked,
    places,
    release_evidence,
    release_invariants,
    release_shadow,
    repairs,
    search,
)
from orderflow.query.store.overdue import Alerts
from orderflow.query.store.snapshot_pool import SnapshotPool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.actions.repair import RepairableEvent
    from orderflow.actions.service import Selection
    from orderflow.domain.release_analysis import Invariant
    from orderflow.query.store.filters import OrderFilter, ParkedFilter
    from orderflow.query.store.places import Unaccounted
    from orderflow.query.store.read_model import (
        ActionResult,
        OrderRecord,
        OrderSummary,
        ParkedRecord,
        ParkedSummary,
    )
    from orderflow.query.store.release_evidence import ReleaseEvidence
    from orderflow.query.store.release_shadow import Decision, Identity, ParkedByRelease
    from orderflow.query.store.repairs import MarkedOrder
    from orderflow.query.store.statistics import Need, Outcomes, Rate
    from orderflow.settings import QuerySettings

_COUNT_SECONDS: Final = 30
"""The time limit of statements that count whole tables."""


class Reader:
    """Every method reads one snapshot of the database.

    Every method raises TransientError where the database does not answer, or a statement exceeds its time limit.
    """

    def __init__(
        self,
        settings: QuerySettings,
        alerts: Alerts | None = None,
        max_matches: int = search.MAX_MATCHES,
    ) -> None:
        self._pool = SnapshotPool(settings)
        self._alerts = alerts or Alerts(StuckLimits(), GapLimits())
        self._max_matches = max_matches

    def close(self) -> None:
        self._pool.close()

    def orders(self, order_filter: OrderFilter) -> list[OrderSummary]:
        """The orders of the page and, where more follow in its direction, one more."""
        with self._pool.snapshot() as connection:
            return search.page(connection, order_filter, self._alerts, self._max_matches)

    def has_order(self, order_id: str) -> bool:
        with self._pool.snapshot() as connection:
            return orders.exists(connection, order_id)

    def order(self, order_id: str) -> OrderRecord | None:
        with self._pool.snapshot() as connection:
            return orders.record(connection, order_id, self._alerts)

    def order_fingerprint(self, order_id: str) -> str:
        """A text that changes whenever the result of order() changes."""
        with self._pool.snapshot() as connection:
            return orders.fingerprint(connection, order_id)

    def parked(self, parked_filter: ParkedFilter) -> list[ParkedSummary]:
        """The parked events of the page and, where more follow in its direction, one more."""
        with self._pool.snapshot() as connection:
            return parked.page(connection, parked_filter)

    def parked_event(self, parked_id: str) -> ParkedRecord | None:
        with self._pool.snapshot() as connection:
            return parked.event(connection, parked_id)

    def parked_stages_and_codes(self) -> tuple[list[str], list[str]]:
        with self._pool.snapshot() as connection:
            return parked.stages_and_codes(connection)

    def parked_events(self, selection: Selection, limit: int) -> list[ParkedEvent]:
        with self._pool.snapshot() as connection:
            return action_results.parked_events(connection, selection, limit)

    def results_of_request(self, request_id: str) -> list[ActionResult]:
        with self._pool.snapshot() as connection:
            return action_results.results(connection, "request", request_id)

    def results_of_parked_event(self, parked_id: str) -> list[ActionResult]:
        with self._pool.snapshot() as connection:
            return action_results.results(connection, "parked_id", parked_id)

    def parked_ids_of(self, request_id: str) -> Sequence[str]:
        """The parked events that a request has acted on so far."""
        return [result.parked_id for result in self.results_of_request(request_id)]

    def repairable(self, revision: str, stage: str, after: str | None, limit: int) -> list[RepairableEvent]:
        with self._pool.snapshot(_COUNT_SECONDS) as connection:
            return repairs.repairable(connection, revision, stage, after, limit)

    def marked_orders(self, revision: str, hours: int, after: str | None, limit: int) -> list[MarkedOrder]:
        """The orders that the revision changed in the last hours, by their ids."""
        with self._pool.snapshot(_COUNT_SECONDS) as connection:
            return repairs.marked_orders(connection, revision, hours, after, limit)

    def urgent(self) -> list[OrderSummary]:
        with self._pool.snapshot() as connection:
            return attention.urgent(connection)

    def needs(self) -> dict[str, Need]:
        with self._pool.snapshot() as connection:
            return attention.needs(connection)

    def alerts(self) -> dict[str, Need]:
        """The orders that exceed the shop's time limits, counted by the alert's code."""
        with self._pool.snapshot() as connection:
            return {need.name: need for need in self._alerts.counts(connection)}

    def unaccounted(self) -> list[Unaccounted]:
        with self._pool.snapshot() as connection:
            return places.unaccounted(connection)

    def rates(self) -> list[Rate]:
        with self._pool.snapshot() as connection:
            return counts.rates(connection)

    def outcomes(self) -> Outcomes:
        with self._pool.snapshot(_COUNT_SECONDS) as connection:
            return counts.outcomes(connection)

    def release_evidence(
        self, stage: str, canary: str, stable: str, since: datetime | None, *, hours: int, seconds: int
    ) -> ReleaseEvidence:
        """since: None stands for the canary's first activity in the last hours. seconds: the length of an interval."""
        with self._pool.snapshot() as connection:
            return release_evidence.evidence(
                connection, stage, canary, stable, since, hours=hours, seconds=seconds
            )

    def release_activity(self, stage: str, canary: str, stable: str, since: datetime) -> tuple[int, int]:
        """The number of deliveries that each revision shows since then: (canary's, stable's)."""
        with self._pool.snapshot() as connection:
            return release_evidence.activity(connection, stage, canary, stable, since)

    def orders_handled_by(self, stage: str, revision: str, since: datetime, limit: int) -> list[OrderSummary]:
        with self._pool.snapshot() as connection:
            return release_evidence.orders_handled_by(connection, stage, revision, since, limit)

    def release_invariants(self, stage: str, canary: str, since: datetime) -> list[Invariant]:
        with self._pool.snapshot() as connection:
            return release_invariants.invariants(connection, stage, canary, since)

    def written_changes(
        self, canary: str, since: datetime, patience: timedelta, limit: int
    ) -> tuple[list[tuple[str, str]], datetime | None]:
        with self._pool.snapshot() as connection:
            return release_invariants.written_changes(connection, canary, since, patience, limit)

    def release_decisions(
        self, revision: str, since: datetime, identities: Sequence[Identity]
    ) -> dict[Identity, Decision]:
        """Of these inbox events, what one revision of track decided since then."""
        with self._pool.snapshot() as connection:
            return release_shadow.decisions(connection, revision, since, identities)

    def parked_by_release(
        self, stage: str, revision: str, since: datetime, limit: int
    ) -> list[ParkedByRelease]:
        """What one revision parked since then because of the event alone, latest first."""
        with self._pool.snapshot() as connection:
            return release_shadow.parked_by(connection, stage, revision, since, limit)

    def last_audit(self) -> dict[str, Any] | None:
        with self._pool.snapshot() as connection:
            return audits.last(connection)

    def last_finished_audit(self) -> dict[str, Any] | None:
        with self._pool.snapshot() as connection:
            return audits.last_finished(connection)
