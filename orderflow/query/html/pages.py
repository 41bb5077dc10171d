"""The pages of orders and parked events. They are complete without a script; server-sent events keep them fresh."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from flask import Blueprint, Response, abort, g, redirect, render_template, request

from orderflow.domain.lifecycle import Payment, Status
from orderflow.errors import NotFoundError
from orderflow.query import labels, masking, paging, requests
from orderflow.query.cached_value import CachedValue
from orderflow.query.requests import reveals_personal_data
from orderflow.query.store import filters
from orderflow.query.store.filters import OrderFilter, ParkedFilter
from orderflow.query.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2 import Environment
    from werkzeug.wrappers import Response as AnyResponse

    from orderflow.adapters.http.api_keys import Principal
    from orderflow.query.server_sent_events import EventStreams
    from orderflow.query.store.read_model import OrderRecord
    from orderflow.query.store.reader import Reader

RECENT_ORDERS: Final = 15
MAX_CONTENT_LENGTH: Final = 50_000
"""How many characters of a parked event's content a page shows; the API has all of it."""


def blueprint(
    reader: Reader,
    streams: EventStreams,
    templates: Environment,
    releases_waiting: Callable[[], int | None] | None,
) -> Blueprint:
    """releases_waiting: returns how many releases need attention, None where the cluster does not answer. It is None
    itself where query has no cluster."""
    pages = _Pages(reader, streams, templates, releases_waiting)
    routes = Blueprint("pages", "orderflow.query.html.pages")
    routes.get("/")(pages.home)
    routes.get("/live")(pages.home_live)
    routes.get("/orders")(pages.orders)
    routes.get("/orders/<order_id>")(pages.order)
    routes.get("/orders/<order_id>/live")(pages.order_live)
    routes.get("/parked")(pages.parked)
    routes.get("/parked/<parked_id>")(pages.parked_event)
    return routes


class _Pages:
    def __init__(
        self,
        reader: Reader,
        streams: EventStreams,
        templates: Environment,
        releases_waiting: Callable[[], int | None] | None,
    ) -> None:
        self._reader = reader
        self._streams = streams
        self._templates = templates
        self._overview = CachedValue(lambda: _overview(reader, releases_waiting), seconds=1)

    def home(self) -> str:
        return render_template("home.html", **_overview_for(g.principal, self._overview.get()))

    def home_live(self) -> Response:
        parts = {name: self._templates.get_template(f"_{name}.html") for name in ("needs", "rates", "recent")}

        client: Principal = g.principal

        def render() -> dict[str, str]:
            values = _overview_for(client, self._overview.get())
            return {name: part.render(values) for name, part in parts.items()}

        return self._streams.response(render)

    def orders(self) -> str | AnyResponse:
        order_filter = filters.read(OrderFilter, request.args)
        client: Principal = g.principal
        if order_filter.q and not client.may("reveal"):
            return self._order_of_id(order_filter.q)
        only_search = order_filter.q and not {name for name, value in request.args.items() if value} - {"q"}
        if only_search and self._reader.has_order(order_filter.q):
            return redirect(f"/orders/{quote(order_filter.q, safe='')}", 303)
        rows = masking.orders(self._reader.orders(order_filter), client)
        return render_template(
            "orders.html",
            page=paging.page_of(rows, order_filter, paging.order_key(order_filter)),
            first=paging.page_address(),
            arguments=request.args,
            sorting="placing" if order_filter.by_placing else "last change",
            statuses=_options([*Status, "awaited"]),
            payments=_options(list(Payment)),
            now=datetime.now(UTC),
        )

    def _order_of_id(self, order_id: str) -> AnyResponse:
        """A search by name or e-mail address would tell who the customers are."""
        if self._reader.has_order(order_id):
            return redirect(f"/orders/{quote(order_id, safe='')}", 303)
        raise NotFoundError(
            f"No order has this whole id. {requests.refusal(g.principal, 'reveal')} to search names."
        )

    def order(self, order_id: str) -> str | AnyResponse:
        record = self._reader.order(order_id)
        if record is None:
            parked_filter = filters.read(ParkedFilter, {"order": order_id, "limit": "1"})
            if self._reader.parked(parked_filter):
                return redirect(f"/parked?order={quote(order_id, safe='')}", 303)
            abort(404)
        return render_template("order.html", **_order_values(record, g.principal))

    def order_live(self, order_id: str) -> Response:
        part = self._templates.get_template("_order.html")
        client: Principal = g.principal
        rendered: dict[str, str] = {}

        def render() -> dict[str, str]:
            fingerprint = self._reader.order_fingerprint(order_id)
            if rendered.get("fingerprint") != fingerprint:
                record = self._reader.order(order_id)
                text = part.render(_order_values(record, client)) if record else "There is no such order."
                rendered.update(fingerprint=fingerprint, order=text)
            return {"order": rendered["order"]}

        return self._streams.response(render)

    def parked(self) -> str:
        parked_filter = filters.read(ParkedFilter, request.args)
        rows = [masking.summary(row) for row in self._reader.parked(parked_filter)]
        stages, codes = self._reader.parked_stages_and_codes()
        return render_template(
            "parked.html",
            page=paging.page_of(rows, parked_filter, paging.parked_key),
            first=paging.page_address(),
            arguments=request.args,
            stages=_options(stages),
            codes=_options(codes),
            now=datetime.now(UTC),
        )

    def parked_event(self, parked_id: str) -> str:
        event = self._reader.parked_event(parked_id)
        if event is None:
            abort(404)
        reveal = reveals_personal_data(parked_id)
        content, form = masking.payload(event.payload, reveal=reveal)
        results = self._reader.results_of_parked_event(parked_id)
        return render_template(
            "parked_event.html",
            event=event.summary if reveal else masking.summary(event.summary),
            results=[(result, *labels.outcome_of(result)) for result in results],
            attributes=event.attributes if reveal else masking.attributes(event.attributes),
            content=content[:MAX_CONTENT_LENGTH],
            truncated=len(content) > MAX_CONTENT_LENGTH,
            form=form,
            size=len(event.payload),
            reveal=reveal,
            now=datetime.now(UTC),
        )


def _overview(reader: Reader, releases_waiting: Callable[[], int | None] | None) -> dict[str, Any]:
    releases = releases_waiting() if releases_waiting is not None else None
    alerts = reader.alerts()
    needs = reader.needs() | alerts | labels.stuck_need(alerts)
    rates = {stage: list(group) for stage, group in groupby(reader.rates(), key=lambda rate: rate.stage)}
    return {
        "needs": needs,
        "releases": releases,
        "total_needs": sum(need.count for need in needs.values()) + (releases or 0),
        "urgent": reader.urgent(),
        "stages": [(stage, about, rates.get(stage, [])) for stage, about in labels.STAGES.items()],
        "rows": reader.orders(OrderFilter(limit=RECENT_ORDERS))[:RECENT_ORDERS],
        "now": datetime.now(UTC),
    }


def _options(values: Sequence[str]) -> list[tuple[str, str]]:
    """The options of a select: value and text."""
    return [(str(value), str(value)) for value in values]


def _overview_for(client: Principal, overview: dict[str, Any]) -> dict[str, Any]:
    """The overview, which all clients share, as this client may see it."""
    masked = {name: masking.orders(overview[name], client) for name in ("urgent", "rows")}
    return overview | masked


def _order_values(record: OrderRecord, client: Principal) -> dict[str, Any]:
    shown = masking.order(record, client)
    return {
        "actions": labels.ORDER_ACTIONS.get(record.summary.status, ()),
        "client": client,
        "order": shown.summary,
        "record": shown,
        "document": shown.document,
        "masked": not client.may("reveal"),
        "timeline": timeline(shown),
        "now": datetime.now(UTC),
    }
