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

    from orderflow.messaging.cloudevent import CloudEvent

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
# Version 00, and neither id all zeros: https://www.w3.org/TR/trace-context/#traceparent-header
_PARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_STATE: Final = 512
_TRACE_ID: Final = slice(3, 35)


def is_parent(text: str) -> bool:
    return _PARENT.fullmatch(text) is not None


def extract(attributes: Mapping[str, str]) -> dict[str, str]:
    """The usable part of the trace context in the attributes: traceparent, and tracestate only with it."""
    parent = attributes.get(PARENT, "")
    if not is_parent(parent):
        return {}
    state = attributes.get(STATE, "")
    usable = 0 < len(state) <= _MAX_STATE and state.isascii() and state.isprintable()
    return {PARENT: parent, STATE: state} if usable else {PARENT: parent}


def from_http(
    extensions: Mapping[str, str], headers: Iterable[tuple[bytes, bytes]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The extensions of an event that came over HTTP, with the trace that it belongs to, and links to other traces.

    If event and request belong to one trace, the request's span is the parent. If not, the event keeps its own trace
    and links to the request's.
    """
    request_headers = {
        name.decode(): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    request_context = extract(request_headers) if request_headers else {}
    if not request_context:
        return dict(extensions), ()
    event_parent = extensions.get(PARENT, "")
    if is_parent(event_parent) and event_parent[_TRACE_ID] != request_context[PARENT][_TRACE_ID]:
        return dict(extensions), (request_context[PARENT],)
    return _without_trace(extensions) | request_context, ()


def relink(event: CloudEvent, cause: CloudEvent | None = None) -> CloudEvent:
    """Moves the event into the trace of the event that causes it to be sent now (None: a trace of its own).

    The event links to the trace that it had. That trace is from when the event first came, which may be days ago.
    """
    event_parent = event.extensions.get(PARENT, "")
    context = extract(cause.extensions) if cause is not None else {}
    links = (event_parent,) if is_parent(event_parent) else ()
    return replace(event, extensions=_without_trace(event.extensions) | context, links=links)


def _without_trace(extensions: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in extensions.items() if name not in (PARENT, STATE)}
