"""What validate would make of an inbox event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.domain.events import kind_of
from orderflow.errors import PoisonError
from orderflow.messaging import cloudevent
from orderflow.messaging.judgement import PARKED, Judgement, readable, reasons_of
from orderflow.validate.handler import validate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.domain.rules import Rules


def judge(headers: Iterable[tuple[bytes, bytes]], body: bytes, rules: Rules) -> Judgement:
    """The request is the inbox event, in binary or structured mode."""
    try:
        event = validate(cloudevent.from_http(headers, body), rules)
    except PoisonError as error:
        return Judgement(outcome=PARKED, reasons=error.reasons)
    document = readable(event)
    reasons = reasons_of(document["data"])
    return Judgement(outcome=kind_of(event.type) or "", reasons=reasons, event=document)
