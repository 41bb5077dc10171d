"""Validate's work: a verdict on a placed order, or a well-formed update passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.domain.events import OrderPlaced, kind_of, type_of
from orderflow.domain.orders import Order
from orderflow.errors import PoisonError
from orderflow.messaging import inbox_event, topics
from orderflow.messaging.cloudevent import CloudEvent, now
from orderflow.messaging.makers import TAKEN_BY, VALIDATED_BY, maker
from orderflow.messaging.places import FIRST_PLACE, INBOX_PLACE

if TYPE_CHECKING:
    from orderflow.domain.rules import Rules
    from orderflow.messaging.publisher import Publisher

_PASSED_ON: Final = ("traceparent", "tracestate", "sequence", "replay", FIRST_PLACE)
"""The extensions of the inbox event that its verdict keeps."""


class Validator:
    """Takes events of the inbox topic. An event is done when Kafka has confirmed what validate made of it."""

    def __init__(self, rules: Rules, publisher: Publisher, revision: str) -> None:
        self._rules = rules
        self._publisher = publisher
        self._revision = revision

    async def handle(self, event: CloudEvent) -> str:
        """Returns the kind of the published event, such as `accepted` or `paid`.

        Raises PoisonError for an event that is not well-formed or that its source may not send, TransientError where
        Kafka does not confirm.
        """
        validated = validate(event, self._rules, self._revision)
        await self._publisher.publish(topics.EVENTS, [validated])
        return kind_of(validated.type) or ""


def validate(event: CloudEvent, rules: Rules, revision: str = "") -> CloudEvent:
    """The event for the events topic. Its id follows from the inbox event's id, its content from the rules too.

    Raises PoisonError where the event is not well-formed, or where its source may not send it.

    revision is the validate revision that decides; it is stored so that canary analysis can compare revisions.
    """
    fact = inbox_event.read(event)
    refusal = rules.authority.refusal(event.source, fact.kind, event.subject)
    if refusal is not None:
        raise PoisonError(refusal)
    content = inbox_event.normalised(fact)
    kind, data = fact.kind, content
    if isinstance(fact, OrderPlaced):
        verdict = rules.judge(Order.model_construct(**fact.__dict__))
        kind, data = verdict.kind, verdict.model_dump_json(exclude_none=True).encode()
    passed_on = {name: event.extensions[name] for name in _PASSED_ON if name in event.extensions}
    return CloudEvent(
        type=type_of(kind),
        source=inbox_event.VALIDATED_SOURCE,
        id=inbox_event.validated_id(event.source, event.id),
        subject=event.subject,
        time=event.time or now(),
        data=data,
        extensions={
            "partitionkey": event.subject,
            "originsource": event.source,
            "originid": event.id,
            "origindigest": inbox_event.digest(event.type, event.subject, content),
            "contentdigest": inbox_event.content_digest(event.type, event.subject, fact),
        }
        | {name: by for name, by in ((TAKEN_BY, maker(event, TAKEN_BY)), (VALIDATED_BY, revision)) if by}
        | ({INBOX_PLACE: str(event.place)} if event.place else {})
        | passed_on,
    )
