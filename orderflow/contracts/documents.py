"""All contracts as files: paths under contracts/, and texts."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from orderflow.contracts import asyncapi, openapi, reference, schemas
from orderflow.contracts.messages import all_messages

_WIDTH: Final = 100


@cache
def documents() -> dict[str, dict[str, Any]]:
    """Every JSON document by its path, such as `schemas/read/orders.inbox.v1/dev.orderflow.order.paid.v1.json`."""
    descriptions = {f"openapi/{stage}.json": openapi.describe(stage) for stage in ("intake", "query")}
    descriptions["asyncapi.json"] = asyncapi.describe()
    return descriptions | {
        f"schemas/{side}/{message.name}.json": schemas.event(message, side)
        for message in all_messages()
        for side in schemas.SIDES
        if side == "read" or message.written
    }


def files() -> dict[str, str]:
    """The text of every file, by its path."""
    texts = {path: text(document) for path, document in documents().items()}
    return texts | {"README.md": reference.markdown(documents())}


def text(document: Any) -> str:  # noqa: ANN401 - any JSON
    """JSON for readable diffs: one member per line, but lists of plain values in filled lines."""
    return _formatted(document, "") + "\n"


def _formatted(value: Any, margin: str) -> str:  # noqa: ANN401 - any JSON
    inner = margin + "  "
    if isinstance(value, dict) and value:
        members = (f"{inner}{json.dumps(name)}: {_formatted(each, inner)}" for name, each in value.items())
        return "{\n" + ",\n".join(members) + f"\n{margin}}}"
    if isinstance(value, list | tuple) and value:
        if any(isinstance(each, dict | list | tuple) for each in value):
            return "[\n" + ",\n".join(inner + _formatted(each, inner) for each in value) + f"\n{margin}]"
        return _filled([json.dumps(each, ensure_ascii=False) for each in value], margin)
    return json.dumps(value, ensure_ascii=False)


def _filled(words: list[str], margin: str) -> str:
    whole = f"[{', '.join(words)}]"
    if len(margin) + len(whole) <= _WIDTH:
        return whole
    lines = [f"{margin}  {words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > _WIDTH:
            lines[-1] += ","
            lines.append(f"{margin}  {word}")
        else:
            lines[-1] += f", {word}"
    return "[\n" + "\n".join(lines) + f"\n{margin}]"
