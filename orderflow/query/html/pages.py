"""The operators' console: pages that are complete without a script, and the streams that keep them fresh."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from flask import Blueprint, Response, abort, g, redirect, render_template, request

from orderflow.domain.lifecycle import Payment, Status
from orderflow.query import labels, masking
from orderflow.query.api.reads import address, order_key, parked_key, revealed, sheet
from orderflow.query.server_sent_events import Kept
from orderflow.query.store import filters
from orderflow.query.store.filters import OrderFilter, ParkedFilter
from orderflow.query.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment
    from werkzeug.wrappers import Response as AnyResponse

    from orderflow.query.server_sent_events import Streams
    from orderflow.query.store.action_results import DeskReader
    from orderflow.query.store.read_model import OrderRecord

RECENT: Final = 15
MOST_SHOWN: Final = 50_000
"""Of what came in a parked event, in characters; the API gives all of it."""


def blueprint(
    reader: DeskReader, streams: Streams, templates: Environment, releases: Kept[int | None] | None
) -> Blueprint:
    """releases: how many wait for a person; None where no releases are shown."""
    pages = _Pages(reader, streams, templates, releases)
    routes = Blueprint("pages", "orderflow.query.html.pages")
    routes.get("/")(pages.home)
    routes.get("/live")(pages.live)
    routes.get("/orders")(pages.orders)
    routes.get("/orders/<order_id>")(pages.order)
    routes.get("/orders/<order_id>/live")(pages.order_live)
    routes.get("/parked")(pages.parked)
    routes.get("/parked/<parked_id>")(pages.parked_event)
    return routes


class _Pages:
    def __init__(
        self,
        reader: DeskReader,
        streams: Streams,
        templates: Environment,
        releases: Kept[int | None] | None,
    ) -> None:
        self._reader = reader
        self._streams = streams
        self._templates = templates
        self._overview = Kept(lambda: _overview(reader, releases), seconds=1)

    def home(self) -> str:
        return render_template("home.html", **self._overview.get())

    def live(self) -> Response:
        parts = {name: self._templates.get_template(f"_{name}.html") for name in ("needs", "rates", "recent")}

        def render() -> dict[str, str]:
            shown = self._overview.get()
            return {name: part.render(shown) for name, part in parts.items()}

        return self._streams.response(render)

    def orders(self) -> str | AnyResponse:
        wanted = filters.read(OrderFilter, request.args)
        only_search = wanted.q and not {name for name, value in request.args.items() if value} - {"q"}
        if only_search and self._reader.has_order(wanted.q):
            return redirect(f"/orders/{quote(wanted.q, safe='')}", 303)
        rows, older, newer = sheet(self._reader.orders(wanted), wanted, order_key(wanted))
        return render_template(
            "orders.html",
            rows=rows,
            older=older,
            newer=newer,
            first=address(),
            given=request.args,
            sorting="placing" if wanted.by_placing else "last change",
            statuses=_options([*Status, "awaited"]),
            payments=_options(list(Payment)),
            now=datetime.now(UTC),
        )

    def order(self, order_id: str) -> str | AnyResponse:
        record = self._reader.order(order_id)
        if record is None:
            parked = filters.read(ParkedFilter, {"order": order_id, "limit": "1"})
            if self._reader.parked(parked):
                return redirect(f"/parked?order={quote(order_id, safe='')}", 303)
            abort(404)
        return render_template("order.html", **_order_view(record, may_act=g.may_act))

    def order_live(self, order_id: str) -> Response:
        part = self._templates.get_template("_order.html")
        may_act: bool = g.may_act
        seen: dict[str, str] = {}

        def render() -> dict[str, str]:
            mark = self._reader.order_mark(order_id)
            if seen.get("mark") != mark:
                record = self._reader.order(order_id)
                text = (
                    part.render(_order_view(record, may_act=may_act)) if record else "There is no such order."
                )
                seen.update(mark=mark, order=text)
            return {"order": seen["order"]}

        return self._streams.response(render)

    def parked(self) -> str:
        wanted = filters.read(ParkedFilter, request.args)
        rows, older, newer = sheet(self._reader.parked(wanted), wanted, parked_key)
        stages, codes = self._reader.parked_names()
        return render_template(
            "parked.html",
            rows=[masking.summary(row) for row in rows],
            older=older,
            newer=newer,
            first=address(),
            given=request.args,
            stages=_options(stages),
            codes=_options(codes),
            now=datetime.now(UTC),
        )

    def parked_event(self, parked_id: str) -> str:
        event = self._reader.parked_event(parked_id)
        if event is None:
            abort(404)
        reveal = revealed(parked_id)
        content, form = masking.payload(event.payload, reveal=reveal)
        return render_template(
            "parked_event.html",
            event=event.summary if reveal else masking.summary(event.summary),
            done=[(each, *labels.outcome_of(each)) for each in self._reader.results("parked_id", parked_id)],
            attributes=event.attributes if reveal else masking.attributes(event.attributes),
            content=content[:MOST_SHOWN],
            cut=len(content) > MOST_SHOWN,
            form=form,
            size=len(event.payload),
            reveal=reveal,
            now=datetime.now(UTC),
        )


def _overview(reader: DeskReader, releases: Kept[int | None] | None) -> dict[str, Any]:
    waiting = releases.get() if releases is not None else None
    alerts = reader.alerts()
    needs = reader.needs() | alerts | labels.stuck(alerts)
    rates = {stage: list(group) for stage, group in groupby(reader.rates(), key=lambda rate: rate.stage)}
    return {
        "needs": needs,
        "releases": waiting,
        "needed": sum(need.count for need in needs.values()) + (waiting or 0),
        "urgent": reader.urgent(),
        "stages": [(stage, about, rates.get(stage, [])) for stage, about in labels.STAGES.items()],
        "rows": reader.orders(OrderFilter(limit=RECENT))[:RECENT],
        "now": datetime.now(UTC),
    }


def _options(values: Sequence[str]) -> list[tuple[str, str]]:
    """Of a select: value and text."""
    return [(str(value), str(value)) for value in values]


def _order_view(record: OrderRecord, *, may_act: bool) -> dict[str, Any]:
    return {
        "acts": labels.ACTS.get(record.summary.status, ()) if may_act else (),
        "order": record.summary,
        "record": record,
        "document": record.document,
        "turns": timeline(record),
        "now": datetime.now(UTC),
    }
