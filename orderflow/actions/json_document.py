"""Changes to a JSON document by path, such as `data.lines.0.quantity`, and the paths in which two documents differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from orderflow.errors import PoisonError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = Any


def changed(document: dict[str, Json], changes: Mapping[str, Json]) -> dict[str, Json]:
    """A copy of the document in which each path has its new value. None removes what is under the path.

    Raises PoisonError naming the first path that does not exist.
    """
    copy: dict[str, Json] = json.loads(json.dumps(document))
    for path, value in changes.items():
        _set(copy, path, value)
    return copy


def _set(document: dict[str, Json], path: str, value: Json) -> None:
    *parents, last = path.split(".")
    container: Json = document
    for name in parents:
        container = _member(container, name, path)
    if isinstance(container, list):
        _member(container, last, path)
        container[int(last) : int(last) + 1] = [] if value is None else [value]
    elif isinstance(container, dict):
        if value is None:
            container.pop(last, None)
        else:
            container[last] = value
    else:
        raise PoisonError(Reason("path_unknown", path, "the value above this path has no members"))


def _member(container: Json, name: str, path: str) -> Json:
    if isinstance(container, dict) and name in container:
        return container[name]
    if isinstance(container, list) and name.isascii() and name.isdigit() and int(name) < len(container):
        return container[int(name)]
    raise PoisonError(Reason("path_unknown", path, "the event has nothing under this path"))


def differences(before: Json, after: Json, path: str = "") -> list[str]:
    """The paths under which two documents differ. Where only one document has a member, the path is that member's."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        members = [(before.get(name), after.get(name), name) for name in names]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        members = [(old, new, str(index)) for index, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        return [path] if before != after or type(before) is not type(after) else []
    return [
        difference
        for old, new, name in members
        for difference in differences(old, new, f"{path}.{name}" if path else name)
    ]
