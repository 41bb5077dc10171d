"""Spans around notify's channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind

from orderflow.adapters.telemetry.traces import describe, extract, mark_failed
from orderflow.notify.model import Fate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.adapters.telemetry.traces import Attributes, Telemetry
    from orderflow.notify.handler import Channel
    from orderflow.notify.model import Notification, Outcome

_TROUBLE: Final = frozenset({Fate.NOT_NOW, Fate.UNKNOWN})


def traced(channels: Mapping[str, Channel], telemetry: Telemetry) -> dict[str, Channel]:
    return {name: TracedChannel(telemetry, channel) for name, channel in channels.items()}


class TracedChannel:
    """A span for each attempt to send a notification. Where an e-mail goes is personal data; a webhook is told by
    its name. The receiver gets no `traceparent`: it is somebody else's system."""

    def __init__(self, telemetry: Telemetry, inner: Channel) -> None:
        self._telemetry = telemetry
        self._inner = inner

    async def send(self, notification: Notification) -> Outcome:
        parent = extract(notification.event.extensions)
        attributes: Attributes = {
            "orderflow.channel": notification.channel,
            "orderflow.place": notification.place,
        }
        name = f"notify {notification.channel}"
        with self._telemetry.span(name, parent, SpanKind.CLIENT, attributes) as span:
            outcome = await self._inner.send(notification)
            describe(span, notification.event, outcome.fate.value)
            if outcome.fate is not Fate.SENT:
                span.set_attribute("orderflow.reason", outcome.code)
            if outcome.fate in _TROUBLE:
                mark_failed(span, outcome.code)
            return outcome
