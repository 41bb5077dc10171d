"""Makers: the revisions that made an event. Each of our stages names its revision in an extension of what it makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orderflow.messaging.cloudevent import MAX_ATTRIBUTES_SIZE, MAX_EXTENSIONS

if TYPE_CHECKING:
    from orderflow.messaging.cloudevent import CloudEvent

TAKEN_BY: Final = "takenby"
"""Extension of an inbox event and of what validate made of it: the revision of intake that took the event."""
VALIDATED_BY: Final = "validatedby"
"""Extension of an event of the events topic: the revision of validate that made the event."""
TRACKED_BY: Final = "trackedby"
"""Extension of a status event: the revision that rendered the event."""
MAKERS: Final = (TAKEN_BY, VALIDATED_BY, TRACKED_BY)

_REVISION: Final = re.compile(r"[a-z][-a-z0-9]{0,62}")


def maker(event: CloudEvent, name: str) -> str:
    """The revision that the extension names; empty where there is none, or where the value is no revision's name.

    A producer that writes to the inbox topic itself can set any extension.
    """
    value = event.extensions.get(name, "")
    return value if _REVISION.fullmatch(value) else ""


def taken_by(event: CloudEvent, revision: str) -> CloudEvent:
    """The inbox event with the revision of intake that took it.

    An event that has no room for one more extension stays as it is: the release of validate before this one counts the
    extension, and would park the event.
    """
    if not revision:
        return event
    named = event.with_extensions(takenby=revision)
    size = sum(len(name) + len(value) for name, value in named.attributes().items()) + len(named.content_type)
    return named if len(named.extensions) <= MAX_EXTENSIONS and size <= MAX_ATTRIBUTES_SIZE else event
