"""W3C trace context as events carry it: CloudEvents' distributed tracing extension.

A stage hands the `traceparent` of the event that it handles on to what it publishes, whether traces are recorded or
not. Where they are recorded, orderflow.adapters.telemetry.traces gives the event the stage's own span before the stage
sees the event.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orderflow.messaging.cloudevent import Envelope

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
# Version 00, and neither id all zeros: https://www.w3.org/TR/trace-context/#traceparent-header
_PARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_STATE: Final = 512
_TRACE_ID: Final = slice(3, 35)


def is_parent(text: str) -> bool:
    return _PARENT.fullmatch(text) is not None


def carried(attributes: Mapping[str, str]) -> dict[str, str]:
    """The trace context among attributes, as far as it can be used."""
    parent = attributes.get(PARENT, "")
    if not is_parent(parent):
        return {}
    state = attributes.get(STATE, "")
    usable = 0 < len(state) <= _LONGEST_STATE and state.isascii() and state.isprintable()
    return {PARENT: parent, STATE: state} if usable else {PARENT: parent}


def entered(
    extensions: Mapping[str, str], headers: Iterable[tuple[bytes, bytes]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The extensions of an event that came over HTTP with the trace that it belongs to, and links to others.

    The event's own context is that of where it began, the headers' that of the last hop: within one trace the hop
    is nearer, and a trace of its own is only linked to.
    """
    found = {
        name.decode(): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    hop = carried(found) if found else {}
    if not hop:
        return dict(extensions), ()
    own = extensions.get(PARENT, "")
    if is_parent(own) and own[_TRACE_ID] != hop[PARENT][_TRACE_ID]:
        return dict(extensions), (hop[PARENT],)
    return _without_trace(extensions) | hop, ()


def moved(event: Envelope, cause: Envelope | None = None) -> Envelope:
    """The event as a part of what caused it to be sent now (None: a trace of its own), linked to the trace that it
    had: that one is from when it first came, which may be days ago."""
    own = event.extensions.get(PARENT, "")
    given = carried(cause.extensions) if cause is not None else {}
    links = (own,) if is_parent(own) else ()
    return replace(event, extensions=_without_trace(event.extensions) | given, links=links)


def _without_trace(extensions: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in extensions.items() if name not in (PARENT, STATE)}
