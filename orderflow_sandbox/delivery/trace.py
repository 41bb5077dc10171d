"""The trace context that a record's headers carry into the HTTP headers of its request. Pure but for the span ids.

The data plane extracts W3C Trace Context and Baggage from the Kafka headers, whatever the case of their names, and
injects both into the request. Without a valid `traceparent` it sends none of them, because its tracing policy is
PROPAGATE. Its sampler follows the parent, so the flags are 01 or 00.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

# A later version may have more behind the flags; what is sent has version 00.
_PARENT: Final = re.compile(
    r"(?:00-(?P<ids>[0-9a-f]{32}-[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"|(?!00|ff)[0-9a-f]{2}-(?P<later_ids>[0-9a-f]{32}-[0-9a-f]{16})-(?P<later_flags>[0-9a-f]{2})(?:-.*)?)",
    re.DOTALL,
)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_SAMPLED: Final = 1

_STATE_MEMBER: Final = re.compile(
    r"(?P<key>[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_STATE_SEPARATOR: Final = re.compile(r"[ \t]*,[ \t]*")
_MAX_STATE_MEMBERS: Final = 32

_BAGGAGE_MEMBER: Final = re.compile(
    r"\s*(?P<key>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*(?P<value>(?:[\x21\x23-\x24\x26-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]"
    r"|%[0-9A-Fa-f]{2})*)\s*(?:;(?P<properties>[^,]*))?"
)
_NOT_QUOTED_IN_BAGGAGE: Final = ":@!$&'()*+"


def context_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """`traceparent`, `tracestate` and `baggage` as they are sent, with the producer's span id; empty without a trace.

    The first header of a name counts.
    """
    values: dict[str, str] = {}
    for key, value in headers:
        name = key.lower()
        if name in {"traceparent", "tracestate", "baggage"} and value is not None:
            values.setdefault(name, value.decode("utf-8", "replace"))
    match = _PARENT.fullmatch(values.get("traceparent", ""))
    if match is None:
        return {}
    trace_id, _, span_id = (match["ids"] or match["later_ids"]).partition("-")
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return {}
    sampled = int(match["flags"] or match["later_flags"], 16) & _SAMPLED
    context = {"traceparent": f"00-{trace_id}-{span_id}-{sampled:02}"}
    if state := _state(values.get("tracestate", "")):
        context["tracestate"] = state
    if baggage := _baggage(values.get("baggage", "")):
        context["baggage"] = baggage
    return context


def with_new_span(context: dict[str, str]) -> dict[str, str]:
    """The context of one request: the data plane makes a span of its own for it."""
    trace_id, flags = context["traceparent"][3:35], context["traceparent"][-2:]
    return {**context, "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"}


def _state(text: str) -> str:
    """Empty where one member is invalid: then all are left out."""
    members = _STATE_SEPARATOR.split(text.rstrip(" \t,")) if text else []
    matches = [_STATE_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in matches if match}
    if len(members) > _MAX_STATE_MEMBERS or len(keys) < len(members):
        return ""
    return ",".join(members)


def _baggage(text: str) -> str:
    """Members without a value are left out; one with characters that baggage may not have removes all."""
    entries: dict[str, str] = {}
    for member in text.split(","):
        if "=" not in member:
            continue
        match = _BAGGAGE_MEMBER.fullmatch(member)
        if match is None:
            return ""
        value = quote(unquote(match["value"]), safe=_NOT_QUOTED_IN_BAGGAGE)
        properties = match["properties"]
        entries[match["key"]] = value + (f";{quote(properties.strip())}" if properties else "")
    return ",".join(f"{key}={value}" for key, value in entries.items())
