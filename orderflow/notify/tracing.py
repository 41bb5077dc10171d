"""Spans around notify's channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind

from orderflow.adapters.telemetry.traces import describe, extract, mark_failed
from orderflow.notify.model import DeliveryResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.adapters.telemetry.traces import Attributes, Telemetry
    from orderflow.notify.handler import Channel
    from orderflow.notify.model import Delivery, Handover, Notification

_FAILURES: Final = frozenset({DeliveryResult.NOT_NOW, DeliveryResult.UNKNOWN})


def traced(channels: Mapping[str, Channel], telemetry: Telemetry) -> dict[str, Channel]:
    return {name: TracedChannel(telemetry, channel) for name, channel in channels.items()}


class TracedChannel:
    """Records a span for each attempt to send a notification.

    The span names a webhook endpoint by its name and never names an e-mail address, which is personal data. The
    receiver gets no `traceparent`: it is another party's system.
    """

    def __init__(self, telemetry: Telemetry, inner: Channel) -> None:
        self._telemetry = telemetry
        self._inner = inner

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        parent = extract(notification.event.extensions)
        attributes: Attributes = {
            "orderflow.channel": notification.channel,
            "orderflow.place": notification.target,
        }
        name = f"notify {notification.channel}"
        with self._telemetry.span(name, parent, SpanKind.CLIENT, attributes) as span:
            delivery = await self._inner.send(notification, handover)
            describe(span, notification.event, delivery.result.value)
            if delivery.result is not DeliveryResult.SENT:
                span.set_attribute("orderflow.reason", delivery.code)
            if delivery.result in _FAILURES:
                mark_failed(span, delivery.code)
            return delivery
