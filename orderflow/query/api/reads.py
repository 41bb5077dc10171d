"""The read API: in JSON for programs what the pages show to people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, g, jsonify, request

from orderflow.actions import resend
from orderflow.actions.parked_event import ParkedEvent
from orderflow.errors import PoisonError
from orderflow.query import labels, masking, paging
from orderflow.query.api import metrics
from orderflow.query.cached_value import CachedValue
from orderflow.query.requests import require, reveals_personal_data
from orderflow.query.store import filters
from orderflow.query.store.filters import OrderFilter, ParkedFilter
from orderflow.query.timeline import timeline

if TYPE_CHECKING:
    from orderflow.query.store.read_model import OrderSummary, ParkedRecord
    from orderflow.query.store.reader import Reader
    from orderflow.query.timeline import TimelineEntry

Json = dict[str, Any]


def blueprint(reader: Reader) -> Blueprint:
    routes = Blueprint("api", "orderflow.query.api.reads")
    outcomes = CachedValue(reader.outcomes, seconds=1)
    needs = CachedValue(reader.needs, seconds=1)
    alerts = CachedValue(reader.alerts, seconds=1)

    @routes.get("/api/orders")
    def orders() -> Response:
        order_filter = filters.read(OrderFilter, request.args)
        rows_read = _orders(reader, order_filter)
        page = paging.page_of(rows_read, order_filter, paging.order_key(order_filter))
        rows = [asdict(row) | {"href": f"/api/orders/{row.order_id}"} for row in page.rows]
        return jsonify({"orders": rows, "older": page.older, "newer": page.newer})

    @routes.get("/api/orders/<order_id>")
    def order(order_id: str) -> Response:
        record = reader.order(order_id)
        if record is None:
            abort(404)
        record = masking.order(record, g.principal)
        body = asdict(record)
        body["alerts"] = [asdict(alert) | {"text": labels.alert_text(alert)} for alert in record.alerts]
        body["timeline"] = [_timeline_entry(entry) for entry in timeline(record)]
        return jsonify(body.pop("summary") | body)

    @routes.get("/api/parked")
    def parked() -> Response:
        parked_filter = filters.read(ParkedFilter, request.args)
        page = paging.page_of(reader.parked(parked_filter), parked_filter, paging.parked_key)
        rows = [asdict(masking.summary(row)) | {"href": f"/api/parked/{row.id}"} for row in page.rows]
        return jsonify({"parked": rows, "older": page.older, "newer": page.newer})

    @routes.get("/api/parked/<parked_id>")
    def parked_event(parked_id: str) -> Response:
        event = reader.parked_event(parked_id)
        if event is None:
            abort(404)
        reveal = reveals_personal_data(parked_id)
        content, form = masking.payload(event.payload, reveal=reveal)
        return jsonify(
            asdict(event.summary if reveal else masking.summary(event.summary))
            | {
                "actions": [asdict(result) for result in reader.results_of_parked_event(parked_id)],
                **(_editable(event) if reveal else {}),
                "attributes": event.attributes if reveal else masking.attributes(event.attributes),
                "payload": content,
                "payload_form": form,
                "payload_bytes": len(event.payload),
                "masked": not reveal,
            }
        )

    @routes.get("/api/rates")
    def rates() -> Response:
        rows = [asdict(rate) | {"last_minute": rate.last_minute} for rate in reader.rates()]
        return jsonify({"seconds_each": 60, "rates": rows})

    @routes.get("/api/outcomes")
    def counts() -> Response:
        return jsonify(outcomes.get())

    @routes.get("/metrics")
    def prometheus() -> Response:
        text = metrics.of_outcomes(outcomes.get(), needs.get())
        text += metrics.of_audit(reader.last_finished_audit())
        text += metrics.of_places(reader.unaccounted())
        text += metrics.of_alerts(alerts.get(), datetime.now(UTC))
        return Response(text, content_type=metrics.CONTENT_TYPE)

    return routes


def _orders(reader: Reader, order_filter: OrderFilter) -> list[OrderSummary]:
    """Raises ForbiddenError for a search by a client who may not see personal data: what a search by name or e-mail
    address finds tells who the customers are."""
    if order_filter.q:
        require("reveal")
    return masking.orders(reader.orders(order_filter), g.principal)


def _editable(event: ParkedRecord) -> Json:
    """The document that an operator can edit, or the reason why there is none."""
    try:
        return {"editable": resend.document(_actionable(event)), "not_editable": None}
    except PoisonError as error:
        return {"editable": None, "not_editable": error.reasons[0].text}


def _actionable(record: ParkedRecord) -> ParkedEvent:
    """The record as operators act on it."""
    summary = record.summary
    return ParkedEvent(
        id=summary.id,
        order_id=summary.order_id,
        stage=summary.stage,
        topic=summary.topic,
        state=summary.state,
        codes=tuple(reason["code"] for reason in summary.reasons),
        attributes=record.attributes,
        payload=record.payload,
        parked_at=summary.parked_at,
    )


def _timeline_entry(entry: TimelineEntry) -> Json:
    """Without the notifications and the parked event itself, which the order's own lists have."""
    return {
        "at": entry.at,
        "kind": entry.kind,
        "outcome": entry.outcome,
        "stage": entry.stage,
        "revision": entry.revision,
        "version": entry.version,
        "reason": entry.reason,
        "changes": [{"of": name, "from": before, "to": after} for name, before, after in entry.changes],
        "details": dict(entry.details),
        "parked": entry.parked.id if entry.parked else None,
    }
