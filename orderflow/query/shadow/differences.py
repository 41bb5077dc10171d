"""In what two judgements of one event differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.digests import Digests
from orderflow.errors import PoisonError
from orderflow.messaging.cloudevent import moment
from orderflow.messaging.places import INBOX_PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orderflow.domain.lifecycle import OrderState
    from orderflow.errors import Reason
    from orderflow.messaging.judgement import Judgement

_NOT_AS_IT_IS: Final = frozenset(
    {
        *("validatedby", "takenby", "traceparent", "tracestate", INBOX_PLACE),
        *("origindigest", "contentdigest", "time", "data"),
    }
)
"""Members of a structured event: who made it on which way, which is not compared, and what is compared in another way
than by equality."""
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
_STATE: Final = ("status", "payment", "currency", "total", "captured", "refunded", "version")
"""The fields of an order's state that the history and the order have. The state to which a release returns is not in
the history."""
_SENDERS_NAMES: Final = "metadata"
"""The members of an order's metadata have names that the sender chose. They do not become part of a reason."""


def differences(canary: Judgement, stable: Judgement, *, timed: bool = True) -> tuple[str, ...]:
    """One text for each difference, without any value of the order; empty where the judgements are equal.

    The texts of reasons are not compared: they are for people, and any release may word them anew. timed: the inbox
    event had a time. Where it had none, each revision takes its own clock's.
    """
    if canary.outcome != stable.outcome:
        codes = _codes(canary.reasons) or _codes(stable.reasons)
        return (f"{canary.outcome} instead of {stable.outcome}" + (f": {codes}" if codes else ""),)
    return tuple(dict.fromkeys(_within(canary, stable, timed=timed)))


def _within(canary: Judgement, stable: Judgement, *, timed: bool) -> Iterator[str]:
    if _keys(canary.reasons) != _keys(stable.reasons):
        codes = _codes(canary.reasons), _codes(stable.reasons)
        fields = "" if codes[0] != codes[1] else ", of other fields"
        yield f"other reasons: {codes[0] or 'none'} instead of {codes[1] or 'none'}{fields}"
    if canary.event is not None and stable.event is not None:
        yield from _events(canary.event, stable.event, timed=timed)
    if canary.order is not None and stable.order is not None:
        yield from _states(canary.order, stable.order)
    for name in ("detail", "document"):
        yield from _json(getattr(canary, name), getattr(stable, name), name)


def _events(canary: Mapping[str, Any], stable: Mapping[str, Any], *, timed: bool) -> Iterator[str]:
    attributes, data = zip(*map(_parts, (canary, stable)), strict=True)
    yield from _json(*attributes)
    if timed and _moment(canary) != _moment(stable):
        yield "time differs"
    if not _digests(canary).same_content(_digests(stable)):
        yield "the digest of the content differs"
    yield from _json(*data)


def _parts(event: Mapping[str, Any]) -> tuple[object, object]:
    """The attributes and the data that are compared as they are. Reasons are compared by their codes."""
    attributes = {name: value for name, value in event.items() if name not in _NOT_AS_IT_IS}
    data = event.get("data")
    if isinstance(data, dict):
        data = {name: value for name, value in data.items() if name != "reasons"}
    return attributes, data


def _states(canary: OrderState, stable: OrderState) -> Iterator[str]:
    yield from (f"{name} differs" for name in _STATE if getattr(canary, name) != getattr(stable, name))
    if canary.digest and not Digests(canary.digest, canary.content_digest).same_content(
        Digests(stable.digest, stable.content_digest)
    ):
        yield "the digest of the content differs"


def _json(canary: object, stable: object, path: str = "") -> Iterator[str]:
    """The paths at which two JSON values differ, without the indexes of lists."""
    if isinstance(canary, dict) and isinstance(stable, dict) and not path.endswith(_SENDERS_NAMES):
        for name in sorted(canary.keys() | stable.keys()):
            below = f"{path}.{name}" if path else name
            if not _NAME.fullmatch(name):
                below = path or "an attribute"
            if name not in canary:
                yield f"{below} is missing"
            elif name not in stable:
                yield f"{below} is new"
            else:
                yield from _json(canary[name], stable[name], below)
    elif isinstance(canary, list) and isinstance(stable, list) and len(canary) == len(stable):
        for mine, other in zip(canary, stable, strict=True):
            yield from _json(mine, other, path)
    elif type(canary) is not type(stable) or canary != stable:
        yield f"{path or 'the data'} differs"


def _keys(reasons: Iterable[Reason]) -> set[tuple[str, str]]:
    return {(reason.code, reason.field) for reason in reasons}


def _codes(reasons: Iterable[Reason]) -> str:
    return ", ".join(sorted({reason.code for reason in reasons}))


def _digests(event: Mapping[str, Any]) -> Digests:
    return Digests(str(event.get("origindigest", "")), str(event.get("contentdigest", "")))


def _moment(event: Mapping[str, Any]) -> object:
    """KafkaSource writes a time in another form than its record has."""
    time = str(event.get("time", ""))
    try:
        return moment(time)
    except PoisonError:
        return time
