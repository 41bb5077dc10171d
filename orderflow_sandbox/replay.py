"""Replays orders from a CSV file at their real distances in time, divided by a speed-up.

A line is `order_id,status,purchased,approved,shipped,delivered,...`, times in RFC 3339, empty where unknown; further
columns are passed over. Items and prices follow from the order id.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.events import type_of
from orderflow.messaging.cloudevent import Envelope
from orderflow_sandbox.address import SandboxError
from orderflow_sandbox.scenarios import PAYMENTS, SHOP, WAREHOUSE, Sending, Story, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

COLUMNS: Final = ("order_id", "status", "purchased", "approved", "shipped", "delivered")
CALLED_OFF: Final = {"canceled": "cancelled by the customer", "unavailable": "not available"}
_WAYS: Final = (Way.PLAIN, Way.BINARY, Way.STRUCTURED, Way.KAFKA)


def read(file: Path) -> list[Story]:
    """One story a line. Raises SandboxError naming the line and the column at fault."""
    try:
        with file.open(newline="") as lines:
            rows = csv.DictReader(lines)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise SandboxError(
                    f"{file}: the first line must name the columns; missing: {', '.join(missing)}"
                )
            return [_story(row, f"{file}, line {rows.line_num}") for row in rows]
    except OSError as error:
        raise SandboxError(f"{file}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SandboxError(f"{file}: is no CSV file: {error}") from None


def _story(row: dict[str, str], where: str) -> Story:
    order_id = row["order_id"]
    times = {name: _time(row[name], f"{where}: {name}") for name in COLUMNS[2:]}
    placed_at = times["purchased"]
    if not order_id or placed_at is None:
        raise SandboxError(f"{where}: order_id and purchased are required")
    data = order_of(order_id)
    money = {"amount": data["total"], "currency": data["currency"]}
    sendings = [_placed(order_id, data, placed_at)]
    if times["approved"]:
        sendings.append(_kafka(order_id, "paid", PAYMENTS, money, times["approved"]))
    if times["shipped"]:
        sendings.append(_kafka(order_id, "shipped", WAREHOUSE, {}, times["shipped"]))
    if times["delivered"]:
        sendings.append(_kafka(order_id, "delivered", WAREHOUSE, {}, times["delivered"]))
    reason = CALLED_OFF.get(row["status"])
    if reason:
        # The file does not say when: after the last thing that it does say.
        last = max(time for time in times.values() if time) + timedelta(minutes=1)
        sendings.append(_kafka(order_id, "cancelled", SHOP, {"reason": reason}, last))
    gone = times["shipped"] is not None
    return Story(
        name=row["status"],
        order_id=order_id,
        sendings=tuple(sendings),
        ends=(_end(times, called_off=reason is not None), "paid" if times["approved"] else "unpaid"),
        parks=1 if reason and gone else 0,
    )


def _end(times: Mapping[str, datetime | None], *, called_off: bool) -> str:
    if times["shipped"] is not None:
        return "delivered" if times["delivered"] else "shipped"
    return "cancelled" if called_off else "accepted"


def order_of(order_id: str) -> dict[str, Any]:
    """An order's data, always the same for the same id: 1 to 3 lines, 9.90 to 399.90 BRL each."""
    seed = hashlib.sha256(order_id.encode()).digest()
    chosen = [
        (f"SKU-{seed[number] % 97:02}", 1 + seed[number + 4] % 2, 990 + 1000 * (seed[number + 8] % 40))
        for number in range(1 + seed[0] % 3)
    ]
    lines = [{"sku": sku, "quantity": quantity, "unit_price": price} for sku, quantity, price in chosen]
    shipping = 100 * (seed[12] % 30)
    goods = sum(quantity * price for _, quantity, price in chosen)
    name = f"Customer {seed[13:15].hex()}"
    return {
        "currency": "BRL",
        "lines": lines,
        "shipping": shipping,
        "total": goods + shipping,
        "customer": {"name": name, "email": f"{order_id[:12]}@customer.example"},
        "shipping_address": {"name": name, "line1": "Rua Um 1", "city": "Curitiba", "country": "BR"},
    }


def _placed(order_id: str, data: dict[str, Any], at: datetime) -> Sending:
    way = _WAYS[hashlib.sha256(order_id.encode()).digest()[20] % len(_WAYS)]
    event = _event(order_id, "placed", SHOP, data, at)
    return (
        Sending(way, event, key=f"replay-{order_id}")
        if way is not Way.PLAIN
        else _plain(order_id, event, data)
    )


def _plain(order_id: str, event: Envelope, data: dict[str, Any]) -> Sending:
    body = json.dumps({"order_id": order_id} | data).encode()
    plain = Envelope(event.type, event.source, event.id, order_id, event.time, body)
    return Sending(Way.PLAIN, plain, key=f"replay-{order_id}")


def _kafka(order_id: str, kind: str, source: str, data: dict[str, Any], at: datetime) -> Sending:
    return Sending(Way.KAFKA, _event(order_id, kind, source, data, at))


def _event(order_id: str, kind: str, source: str, data: dict[str, Any], at: datetime) -> Envelope:
    return Envelope(
        type=type_of(kind),
        source=source,
        id=f"{order_id}-{kind}",
        subject=order_id,
        time=at.isoformat().replace("+00:00", "Z"),
        data=json.dumps(data, separators=(",", ":")).encode(),
    )


def _time(text: str, where: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise SandboxError(f"{where}: this is no time") from None


async def by_time(stories: Sequence[Story], speed: float) -> AsyncIterator[Sending]:
    """All sendings in the order in which they happened; speed is seconds of then per second of now, 0 no pause."""
    told = [sending for story in stories for sending in story.sendings]
    told.sort(key=lambda sending: sending.event.time)
    first = datetime.fromisoformat(told[0].event.time) if told else datetime.now(UTC)
    start = asyncio.get_running_loop().time()
    for sending in told:
        if speed:
            due = (datetime.fromisoformat(sending.event.time) - first).total_seconds() / speed
            await asyncio.sleep(max(0.0, start + due - asyncio.get_running_loop().time()))
        yield sending
