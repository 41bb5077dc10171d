"""An event as KafkaSource sends it over HTTP, and the same event for a dead-letter sink. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orderflow_sandbox.delivery.trace import with_new_span

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTENSION: Final = re.compile(r"[a-z0-9]+")
"""A legal name of an attribute."""
# A line break is legal where a space or tab follows it: the header goes on in the next line.
_NOT_IN_A_HEADER = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|\n(?![ \t])",
)
_ERROR_DATA_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """`attributes` has them by CloudEvents name without prefix, `datacontenttype` included.

    `data` is None where the request has neither a body nor a content-length. `trace` has the HTTP headers of the trace
    context by name; it is empty where the record belongs to no trace.
    """

    attributes: dict[str, str]
    data: bytes | None
    trace: dict[str, str] = field(default_factory=dict)


class IllegalExtensionError(Exception):
    """A response has a `Kne-` header whose rest is no legal name of an extension."""


def dead_letter(
    event: Event,
    destination: str,
    *,
    status: int | None,
    headers: Iterable[tuple[str, str]],
    body: bytes,
) -> Event:
    """The event for the dead-letter sink. `destination` is the sink that failed, the rest its last response.

    `status` is None after a timeout or a refused connection. `Kne-X` headers of the response become extensions. Raises
    IllegalExtensionError where one has no legal name.
    """
    attributes = dict(event.attributes, specversion="1.0", knativeerrordest=destination)
    if "schemaurl" in attributes:
        attributes["dataschema"] = attributes.pop("schemaurl")
    if status is not None:
        attributes["knativeerrorcode"] = str(status)
        for name, value in headers:
            if name[:4].lower() == "kne-":
                extension = name[4:].lower()
                if not EXTENSION.fullmatch(extension):
                    raise IllegalExtensionError(name)
                attributes[extension] = value
        if body:
            data = base64.b64encode(body[:_ERROR_DATA_BYTES]).decode("ascii")
            attributes["knativeerrordata"] = data
    return Event(attributes, event.data, event.trace)


def head_of(event: Event) -> bytes | None:
    """The lines of the event's HTTP headers, each with its end; None where HTTP cannot carry them.

    Values are encoded as Latin-1 (measured: é is one byte 0xE9). Any other character becomes `?`, and `??` outside the
    Basic Multilingual Plane, where it is two chars in Java. Where HTTP cannot carry them, every attempt to send the
    event fails before it starts.
    """
    lines: list[str] = []
    for name, value in event.attributes.items():
        if not value.isprintable() and _NOT_IN_A_HEADER.search(value):
            return None
        if name == "datacontenttype":
            lines.append(f"content-type: {value}\r\n")
        else:
            lines.append(f"ce-{name}: {value}\r\n")
    if event.trace:
        lines.extend(f"{name}: {value}\r\n" for name, value in with_new_span(event.trace).items())
    if event.data is not None:
        lines.append(f"content-length: {len(event.data)}\r\n")
    text = "".join(lines)
    if text.isascii():
        return text.encode("ascii")
    return b"".join(char.encode("latin-1", "replace") if char <= "\uffff" else b"??" for char in text)
