"""The read API: JSON for programs, the same answers that the pages show."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, jsonify, request

from orderflow.actions import parked_event, resend
from orderflow.errors import PoisonError
from orderflow.query import labels, masking
from orderflow.query.api import metrics
from orderflow.query.requests import note_revealed
from orderflow.query.server_sent_events import Kept
from orderflow.query.store import filters
from orderflow.query.store.filters import OrderFilter, ParkedFilter, Place
from orderflow.query.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.query.store.action_results import DeskReader
    from orderflow.query.store.read_model import OrderSummary, ParkedEvent, ParkedSummary
    from orderflow.query.timeline import Turn

Json = dict[str, Any]
Row = TypeVar("Row")


def sheet(
    rows: list[Row], wanted: OrderFilter | ParkedFilter, key: Callable[[Row], tuple[datetime, str]]
) -> tuple[list[Row], str | None, str | None]:
    """The rows of a page, latest first, and the addresses of the older and the newer page where there may be one.

    rows are as the reader gives them: in the direction asked for, one too many where more follow.
    """
    place = wanted.place
    more = len(rows) > wanted.limit
    shown = rows[: wanted.limit]
    if place is not None and place.newer:
        shown.reverse()
    if not shown:
        return [], None, None
    older = more if place is None or not place.newer else True
    newer = place is not None and (more if place.newer else True)
    return (
        shown,
        address(Place(*key(shown[-1])).token()) if older else None,
        address(Place(*key(shown[0]), newer=True).token()) if newer else None,
    )


def address(page: str | None = None) -> str:
    """This request's address with another page of the list."""
    kept = {name: value for name, value in request.args.items() if name != "page" and value}
    query = urlencode(kept | ({"page": page} if page else {}))
    return f"{request.path}?{query}" if query else request.path


def order_key(wanted: OrderFilter) -> Callable[[OrderSummary], tuple[datetime, str]]:
    """What the list is sorted by."""
    return lambda row: ((wanted.by_placing and row.placed_at) or row.updated_at, row.order_id)


def parked_key(row: ParkedSummary) -> tuple[datetime, str]:
    return row.parked_at, row.id


def blueprint(reader: DeskReader) -> Blueprint:
    routes = Blueprint("api", "orderflow.query.api.reads")
    outcomes = Kept(reader.outcomes, seconds=1)
    needs = Kept(reader.needs, seconds=1)
    alerts = Kept(reader.alerts, seconds=1)

    @routes.get("/api/orders")
    def orders() -> Response:
        wanted = filters.read(OrderFilter, request.args)
        rows, older, newer = sheet(reader.orders(wanted), wanted, order_key(wanted))
        body = [asdict(row) | {"href": f"/api/orders/{row.order_id}"} for row in rows]
        return jsonify({"orders": body, "older": older, "newer": newer})

    @routes.get("/api/orders/<order_id>")
    def order(order_id: str) -> Response:
        record = reader.order(order_id)
        if record is None:
            abort(404)
        body = asdict(record)
        body["alerts"] = [asdict(alert) | {"text": labels.alert(alert)} for alert in record.alerts]
        return jsonify(body.pop("summary") | body | {"timeline": [_told(turn) for turn in timeline(record)]})

    @routes.get("/api/parked")
    def parked() -> Response:
        wanted = filters.read(ParkedFilter, request.args)
        rows, older, newer = sheet(reader.parked(wanted), wanted, parked_key)
        body = [asdict(masking.summary(row)) | {"href": f"/api/parked/{row.id}"} for row in rows]
        return jsonify({"parked": body, "older": older, "newer": newer})

    @routes.get("/api/parked/<parked_id>")
    def parked_event(parked_id: str) -> Response:
        event = reader.parked_event(parked_id)
        if event is None:
            abort(404)
        reveal = revealed(parked_id)
        content, form = masking.payload(event.payload, reveal=reveal)
        return jsonify(
            asdict(event.summary if reveal else masking.summary(event.summary))
            | {
                "actions": [asdict(done) for done in reader.results("parked_id", parked_id)],
                **(editable(event) if reveal else {}),
                "attributes": event.attributes if reveal else masking.attributes(event.attributes),
                "payload": content,
                "payload_form": form,
                "payload_bytes": len(event.payload),
                "masked": not reveal,
            }
        )

    @routes.get("/api/rates")
    def rates() -> Response:
        body = [asdict(rate) | {"last_minute": rate.last_minute} for rate in reader.rates()]
        return jsonify({"seconds_each": 60, "rates": body})

    @routes.get("/api/outcomes")
    def counts() -> Response:
        return jsonify(outcomes.get())

    @routes.get("/metrics")
    def prometheus() -> Response:
        text = metrics.text(outcomes.get(), needs.get()) + metrics.audit(reader.ended_audit())
        text += metrics.limits(alerts.get(), datetime.now(UTC))
        return Response(text, content_type=metrics.CONTENT_TYPE)

    return routes


def editable(event: ParkedEvent) -> Json:
    """The event as an operator can write it anew, or why nobody can."""
    try:
        return {"editable": resend.document(letter_of(event)), "not_editable": None}
    except PoisonError as error:
        return {"editable": None, "not_editable": error.reasons[0].text}


def letter_of(event: ParkedEvent) -> parked_event.ParkedEvent:
    head = event.summary
    codes = tuple(reason["code"] for reason in head.reasons)
    return parked_event.ParkedEvent(
        head.id,
        head.order_id,
        head.stage,
        head.topic,
        head.state,
        codes,
        event.attributes,
        event.payload,
        head.parked_at,
    )


def _told(turn: Turn) -> Json:
    """A turn as the order's page shows it; what was sent and parked is in the order's own lists."""
    return {
        "at": turn.at,
        "kind": turn.kind,
        "outcome": turn.outcome,
        "stage": turn.stage,
        "revision": turn.revision,
        "version": turn.version,
        "reason": turn.reason,
        "changes": [{"of": of, "from": before, "to": after} for of, before, after in turn.changes],
        "details": dict(turn.details),
        "parked": turn.parked.id if turn.parked else None,
    }


def revealed(parked_id: str) -> bool:
    """Does the asker want to see personal data? If so, the log says who saw it."""
    reveal = request.args.get("reveal") == "1"
    if reveal:
        note_revealed(parked_id)
    return reveal
