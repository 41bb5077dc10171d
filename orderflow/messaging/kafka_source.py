"""What KafkaSource takes for a CloudEvent's time and URI; it wraps a record that has another value there.

Its data plane is Java: java.time.OffsetDateTime reads a time, java.net.URI reads a source or a schema. Both differ from
RFC 3339 and RFC 3986. The tests have the values that the CloudEvents SDK for Java 4.0.1 takes and refuses.
"""

from __future__ import annotations

import re
from calendar import monthrange
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Final

from orderflow.errors import PoisonError, Reason

if TYPE_CHECKING:
    from orderflow.messaging.cloudevent import CloudEvent

_TIME: Final = re.compile(
    r"(?P<year>\d{4}|-\d{4,9}|\+\d{5,9})-(?P<month>\d\d)-(?P<day>\d\d)[Tt]"
    r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{0,9}))?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset>\d\d(?::\d\d(?::\d\d)?)?))",
    re.ASCII,
)
_MONTHS: Final = 12
_CLOCK: Final = (24, 60, 60)
_LARGEST_OFFSET: Final = (18, 0, 0)

_UNRESERVED: Final = r"A-Za-z0-9_\-!.~'()*"
# Java's "other" characters: all beyond ASCII but spaces and controls.
_OTHER: Final = r"[^\x00-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_ESCAPED: Final = r"%[0-9A-Fa-f]{2}"


def _characters(more: str) -> str:
    return rf"(?:[{_UNRESERVED}{more}]|{_ESCAPED}|{_OTHER})"


_URIC: Final = _characters(r";/?:@&=+$,\[\]")
_PATH: Final = _characters(";/:@&=+$,")
_NAME: Final = _characters("$,;:@&=+")
_USER: Final = _characters(";:&=+$,")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*:")
_OPAQUE: Final = re.compile(rf"{_URIC}+(?:#{_URIC}*)?")
# Authority, path, query, fragment. An authority in brackets is an IPv6 address; an empty one needs something behind it.
_HIERARCHICAL: Final = re.compile(
    rf"(?://(?:{_NAME}+|(?:{_USER}*@)?\[(?P<ipv6>[^\]/?#]*)\](?::\d*)?|(?=[/?#]))(?=[/?#]|\Z)|(?!//))"
    rf"{_PATH}*(?:\?{_URIC}*)?(?:#{_URIC}*)?",
    re.ASCII,
)
_COLON_BEFORE_ANY_PATH: Final = re.compile(r"[^/?#]*:")
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.]+")


def check(event: CloudEvent) -> None:
    """Raises PoisonError, which names the attribute, where KafkaSource would take the event's record for no CloudEvent.

    The event is one that orderflow.messaging.cloudevent.checked has passed: everything else in it is legal there.
    """
    for name, uri in (("source", event.source), ("dataschema", event.extensions.get("dataschema", ""))):
        if not is_uri_reference(uri):
            raise PoisonError(Reason("attribute_invalid", name, "this is no URI reference"))
    if event.time and normalised_time(event.time) is None:
        text = "this is no time as in 2026-11-29T10:00:00Z or 2026-11-29T10:00:00+02:00"
        raise PoisonError(Reason("time_invalid", "time", text))


def normalised_time(text: str) -> str | None:
    """The time as KafkaSource sends it on; None where it takes the text for no time.

    Upper-case T and Z; seconds; a fraction without zeros at its end; the offset with a colon, and with seconds where it
    has some; Z for an offset of zero.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    clock = (int(match["hour"]), int(match["minute"]), int(match["second"] or 0))
    if not 1 <= month <= _MONTHS or any(part >= limit for part, limit in zip(clock, _CLOCK, strict=True)):
        return None
    # Python's calendar ends with the year 9999; the Gregorian one repeats after 400 years.
    if not 1 <= day <= monthrange(2000 + year % 400, month)[1] or (
        year == 0 and match["year"].startswith("-")
    ):
        return None
    zone = _zone(match["sign"], match["offset"])
    if zone is None:
        return None
    date = f"{_year(year)}-{month:02}-{day:02}"
    fraction = (match["fraction"] or "").rstrip("0")
    hour, minute, second = clock
    return f"{date}T{hour:02}:{minute:02}:{second:02}{'.' if fraction else ''}{fraction}{zone}"


def _year(year: int) -> str:
    if 0 <= year <= 9999:  # noqa: PLR2004 - the years of four digits, which have no sign
        return f"{year:04}"
    return f"{'-' if year < 0 else '+'}{abs(year):04}"


def _zone(sign: str | None, offset: str | None) -> str | None:
    """The offset as KafkaSource writes it; None where it takes the text for no offset."""
    if sign is None or offset is None:
        return "Z"
    parts = [int(part) for part in offset.split(":")]
    hour, minute, second = parts + [0] * (3 - len(parts))
    if minute >= 60 or second >= 60 or (hour, minute, second) > _LARGEST_OFFSET:  # noqa: PLR2004 - minutes and seconds
        return None
    if (hour, minute, second) == (0, 0, 0):
        return "Z"
    return f"{sign}{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def is_uri_reference(text: str) -> bool:
    """Whether KafkaSource takes the text for a URI reference. The empty text is one."""
    scheme = _SCHEME.match(text)
    if scheme is None and _COLON_BEFORE_ANY_PATH.match(text):
        return False
    rest = text[scheme.end() :] if scheme else text
    if scheme and not rest.startswith("/"):
        return _OPAQUE.fullmatch(rest) is not None
    match = _HIERARCHICAL.fullmatch(rest)
    return match is not None and (match["ipv6"] is None or _is_ipv6(match["ipv6"]))


def _is_ipv6(text: str) -> bool:
    address, percent, scope = text.partition("%")
    if percent and not _SCOPE.fullmatch(scope):
        return False
    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return True
