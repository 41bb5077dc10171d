"""Replays orders from a CSV file with their real intervals, divided by a speed.

A line is `order_id,status,purchased,approved,shipped,delivered,...`. Times are in RFC 3339, and empty where unknown.
Further columns are ignored. Items and prices are derived from the order id.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.events import type_of
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.address import SandboxError
from orderflow_sandbox.messages import Message, OrderScenario, Transport
from orderflow_sandbox.scenarios import PAYMENTS, SHOP, WAREHOUSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

COLUMNS: Final = ("order_id", "status", "purchased", "approved", "shipped", "delivered")
CANCELLED: Final = {"canceled": "cancelled by the customer", "unavailable": "not available"}
_TRANSPORTS: Final = (Transport.PLAIN, Transport.BINARY, Transport.STRUCTURED, Transport.KAFKA)


def read(file: Path) -> list[OrderScenario]:
    """One scenario per line. Raises SandboxError, which names the line and the column."""
    try:
        with file.open(newline="") as lines:
            rows = csv.DictReader(lines)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise SandboxError(
                    f"{file}: the first line must name the columns; missing: {', '.join(missing)}"
                )
            return [_scenario(row, f"{file}, line {rows.line_num}") for row in rows]
    except OSError as error:
        raise SandboxError(f"{file}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SandboxError(f"{file}: is no CSV file: {error}") from None


def _scenario(row: dict[str, str], where: str) -> OrderScenario:
    order_id = row["order_id"]
    times = {name: _time(row[name], f"{where}: {name}") for name in COLUMNS[2:]}
    placed_at = times["purchased"]
    if not order_id or placed_at is None:
        raise SandboxError(f"{where}: order_id and purchased are required")
    data = order_of(order_id)
    money = {"amount": data["total"], "currency": data["currency"]}
    messages = [_placed(order_id, data, placed_at)]
    if times["approved"]:
        messages.append(_kafka(order_id, "paid", PAYMENTS, money, times["approved"]))
    if times["shipped"]:
        messages.append(_kafka(order_id, "shipped", WAREHOUSE, {}, times["shipped"]))
    if times["delivered"]:
        messages.append(_kafka(order_id, "delivered", WAREHOUSE, {}, times["delivered"]))
    reason = CANCELLED.get(row["status"])
    if reason:
        # The file has no time for it, so it is after the last time that the file has.
        last = max(time for time in times.values() if time) + timedelta(minutes=1)
        messages.append(_kafka(order_id, "cancelled", SHOP, {"reason": reason}, last))
    shipped = times["shipped"] is not None
    return OrderScenario(
        name=row["status"],
        order_id=order_id,
        messages=tuple(messages),
        end=(_end(times, cancelled=reason is not None), "paid" if times["approved"] else "unpaid"),
        parked=1 if reason and shipped else 0,
    )


def _end(times: Mapping[str, datetime | None], *, cancelled: bool) -> str:
    if times["shipped"] is not None:
        return "delivered" if times["delivered"] else "shipped"
    return "cancelled" if cancelled else "accepted"


def order_of(order_id: str) -> dict[str, Any]:
    """The data of an order, the same for the same id: 1 to 3 lines, 9.90 to 399.90 BRL each."""
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


def _placed(order_id: str, data: dict[str, Any], at: datetime) -> Message:
    transport = _TRANSPORTS[hashlib.sha256(order_id.encode()).digest()[20] % len(_TRANSPORTS)]
    event = _event(order_id, "placed", SHOP, data, at)
    return (
        Message(transport, event, key=f"replay-{order_id}")
        if transport is not Transport.PLAIN
        else _plain(order_id, event, data)
    )


def _plain(order_id: str, event: CloudEvent, data: dict[str, Any]) -> Message:
    body = json.dumps({"order_id": order_id} | data).encode()
    plain = CloudEvent(event.type, event.source, event.id, order_id, event.time, body)
    return Message(Transport.PLAIN, plain, key=f"replay-{order_id}")


def _kafka(order_id: str, kind: str, source: str, data: dict[str, Any], at: datetime) -> Message:
    return Message(Transport.KAFKA, _event(order_id, kind, source, data, at))


def _event(order_id: str, kind: str, source: str, data: dict[str, Any], at: datetime) -> CloudEvent:
    return CloudEvent(
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
        raise SandboxError(f"{where}: not a time") from None


async def by_time(scenarios: Sequence[OrderScenario], speed: float) -> AsyncIterator[Message]:
    """All messages by the time of their event. `speed` is seconds of the file per second now; 0 is without pauses."""
    messages = [message for scenario in scenarios for message in scenario.messages]
    messages.sort(key=lambda message: message.event.time)
    first = datetime.fromisoformat(messages[0].event.time) if messages else datetime.now(UTC)
    start = asyncio.get_running_loop().time()
    for message in messages:
        if speed:
            due = (datetime.fromisoformat(message.event.time) - first).total_seconds() / speed
            await asyncio.sleep(max(0.0, start + due - asyncio.get_running_loop().time()))
        yield message
