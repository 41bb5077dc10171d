"""A parked event without personal data: its shape, and the values that are safe to show.

An event that cannot be handled may have any form. So no value is shown because it looks harmless: a text is shown
only under a field that is known to hold no personal data; everything else is masked.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from orderflow.logs import SAFE_IDENTIFIER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.actions.service import Accepted, Receipt
    from orderflow.adapters.http.api_keys import Principal
    from orderflow.query.store.read_model import OrderRecord, OrderSummary, ParkedSummary

Json = Any
A = TypeVar("A", bound="Accepted")

_SAFE_TEXTS: Final = re.compile("code|country|currency|field|kind|order_id|payment|sku|status|type")
_SAFE_NUMBERS: Final = re.compile(
    "amount|captured|discount|quantity|refunded|shipping|tax|total|unit_price|version"
)
# The attributes that intake, validate and KafkaSource set. Their values are checked all the same: a parked event may
# have put anything under these names.
_SAFE_ATTRIBUTES: Final = re.compile(
    "specversion|type|id|source|subject|partitionkey|key|originsource|originid|origindigest|takenby|validatedby|trackedby"
    "|traceparent|sequence|replay"
    "|knativeerrordest|knativeerrorcode|knativekafkapartition|knativekafkaoffset"
)
_TIME: Final = re.compile(r"[0-9TtZz:.+-]{1,40}")
_CONTENT_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]{1,64}(; ?charset=[A-Za-z0-9-]{1,32})?")
_FIELD_PATH: Final = re.compile(r"[A-Za-z0-9_.-]{0,256}")
_HIDDEN: Final = "(masked)"
_MAX_DEPTH: Final = 30
_MAX_BINARY_BYTES: Final = 2000


def attributes(values: dict[str, str]) -> dict[str, str]:
    """CloudEvents attributes by name."""
    return {name: _attribute(name, value) for name, value in values.items()}


def _attribute(name: str, value: str) -> str:
    shape = {"time": _TIME, "datacontenttype": _CONTENT_TYPE}.get(name)
    if shape is None and _SAFE_ATTRIBUTES.fullmatch(name):
        shape = SAFE_IDENTIFIER
    return value if shape is not None and (not value or shape.fullmatch(value)) else _mask(value)


def summary(row: ParkedSummary) -> ParkedSummary:
    """Masks what the sender chose freely: an id may be an e-mail address, and so may the name of a field."""
    return replace(
        row,
        event_type=_attribute("type", row.event_type),
        source=_attribute("source", row.source),
        event_id=_attribute("id", row.event_id),
        origin_source=None if row.origin_source is None else _attribute("originsource", row.origin_source),
        origin_id=None if row.origin_id is None else _attribute("originid", row.origin_id),
        reasons=[
            reason
            | {"field": reason["field"] if _FIELD_PATH.fullmatch(reason["field"]) else _mask(reason["field"])}
            for reason in row.reasons
        ],
    )


def orders(rows: Sequence[OrderSummary], client: Principal) -> list[OrderSummary]:
    """Without the customers' names where the client may not see personal data."""
    if client.may("reveal"):
        return list(rows)
    return [replace(row, customer=None if row.customer is None else _HIDDEN) for row in rows]


def order(record: OrderRecord, client: Principal) -> OrderRecord:
    """Masks the order's document, the recipients of its notifications and the free texts of its events where the client
    may not see personal data."""
    if client.may("reveal"):
        return record
    return replace(
        record,
        summary=orders([record.summary], client)[0],
        document=masked(record.document),
        history=[replace(change, detail=_masked_detail(change.detail)) for change in record.history],
        notifications=[
            replace(
                message, recipient=_mask(message.recipient), error=None if message.error is None else _HIDDEN
            )
            for message in record.notifications
        ],
        parked=[summary(row) for row in record.parked],
    )


def _masked_detail(detail: dict[str, Any]) -> dict[str, Any]:
    """The operator's name and our own reasons are no customer's data; every other text may be."""
    own = {name: value for name, value in detail.items() if name in {"by", "reasons"}}
    shown: dict[str, Any] = masked(detail)
    return shown | own


def masked_receipt(receipt: Receipt) -> Receipt:
    """Masks the types of the parked events."""
    return replace(receipt, taken=masked_types(receipt.taken))


def masked_types(actions: Sequence[A]) -> list[A]:
    return [replace(each, event_type=_attribute("type", each.event_type)) for each in actions]


def payload(content: bytes, *, reveal: bool = False) -> tuple[str, str]:
    """The content as text, and its form: `json`, `text`, `binary` or `empty`. reveal: without masking."""
    if not content:
        return "", "empty"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return (content[:_MAX_BINARY_BYTES].hex(" ") if reveal else f"({len(content)} bytes)"), "binary"
    try:
        document = json.loads(text)
        pretty = json.dumps(document if reveal else masked(document), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return (text if reveal else _mask(text)), "text"
    # JSON can spell half a surrogate pair, which no encoding can write.
    return pretty.encode(errors="replace").decode(), "json"


def masked(document: Json, field: str = "", depth: int = 0) -> Json:
    """The document with its shape kept. Numbers and identifiers are shown under fields that are known to be safe."""
    if depth > _MAX_DEPTH:
        return "(nested too deeply to show)"
    if isinstance(document, dict):
        return {
            name if SAFE_IDENTIFIER.fullmatch(name) else _mask(name): masked(value, name, depth + 1)
            for name, value in document.items()
        }
    if isinstance(document, list):
        return [masked(value, field, depth + 1) for value in document]
    if document is None or isinstance(document, bool):
        return document
    if isinstance(document, str):
        safe = _SAFE_TEXTS.fullmatch(field) and SAFE_IDENTIFIER.fullmatch(document)
    else:
        safe = _SAFE_NUMBERS.fullmatch(field)
    return document if safe else _mask(str(document))


def _mask(text: str) -> str:
    return f"({len(text)} characters, masked)"
