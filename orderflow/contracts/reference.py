"""The contracts for people: one page of Markdown, made from the documents."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from orderflow.contracts.messages import all_messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]

_HEAD: Final = """# Contracts

`make contracts` writes this folder from the code's models. What others may rely on:

- [openapi/intake.json](openapi/intake.json), [openapi/query.json](openapi/query.json): OpenAPI 3.1
- [asyncapi.json](asyncapi.json): AsyncAPI 3, the topics
- `schemas/`: a JSON Schema (2020-12) per topic and type of event; `read` is what the readers of the topic accept,
  `written` what our stages write

A running query serves them under `/contracts`, and its own description under `/openapi.json`. New members and types may
be added at any time: ignore what you do not know. A member that is removed or changed gets a new version in its type.
"""
_METHODS: Final = {"get": "GET", "post": "POST"}


def markdown(documents: Mapping[str, Json]) -> str:
    lines = [
        _HEAD,
        *_operations("intake", documents["openapi/intake.json"]),
        *_operations("query", documents["openapi/query.json"]),
        *_topics(documents["asyncapi.json"]),
        *_models(documents),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _operations(stage: str, document: Json) -> Iterator[str]:
    yield f"## HTTP: {stage}\n\n{document['info']['description']}\n"
    yield "| | | what | answers |"
    yield "|---|---|---|---|"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = ", ".join(operation["responses"])
            yield f"| {_METHODS[method]} | `{path}` | {operation['summary']} | {answers} |"
    yield ""


def _topics(document: Json) -> Iterator[str]:
    yield f"## Topics\n\n{document['info']['description']}\n"
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    for topic, messages in groupby(all_messages(), key=lambda each: each.topic):
        yield f"### `{topic}`\n\n{channels[topic]['description']}\n"
        yield "| type | what | data | schema |"
        yield "|---|---|---|---|"
        for message in messages:
            data = " or ".join(f"[{model.__name__}](#{model.__name__.lower()})" for model in message.models)
            sides = ("read", "written") if message.written else ("read",)
            links = ", ".join(f"[{side}](schemas/{side}/{message.name}.json)" for side in sides)
            yield f"| `{message.event_type}` | {message.summary} | {data} | {links} |"
        yield ""


def _models(documents: Mapping[str, Json]) -> Iterator[str]:
    found: Json = {}
    for message in all_messages():
        found |= documents[f"schemas/read/{message.name}.json"]["$defs"]
    yield "## Data\n\nAs it is read. Amounts are integers in minor units, times are RFC 3339.\n"
    for name, schema in sorted(found.items()):
        if "properties" not in schema:
            continue
        yield f"### {name}\n"
        if "description" in schema:
            yield f"{schema['description']}\n"
        yield "| field | type | |"
        yield "|---|---|---|"
        for field, member in schema["properties"].items():
            needed = "required" if field in schema.get("required", ()) else ""
            yield f"| `{field}` | {_type(member, found)} | {needed} |"
        yield ""


def _type(schema: Json, found: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _named(name, found[name])
    if "anyOf" in schema:
        return " or ".join(_type(each, found) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return _one_of(schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema['items'], found)}{_bounds(schema, 'Items', 'entries')}"
    if kind == "string":
        pattern = schema.get("pattern", "")
        told = f", `{pattern}`" if pattern and "\\x" not in pattern else ""
        return f"text{_bounds(schema, 'Length', 'characters')}{told.replace('|', chr(92) + '|')}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"map to {_type(inner, found)}" if isinstance(inner, dict) else "object"
    return f"{kind}{_range(schema)}"


def _named(name: str, schema: Json) -> str:
    if "properties" in schema:
        return f"[{name}](#{name.lower()})"
    values = schema.get("enum", [])
    if not values:
        return "any JSON"
    return "ISO 4217 code" if name == "Currency" else _one_of(values)


def _one_of(values: list[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _bounds(schema: Json, what: str, unit: str) -> str:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if low is None and high is None:
        return ""
    return f", {low or 0} to {high} {unit}" if high is not None else f", {low} {unit} or more"


def _range(schema: Json) -> str:
    if "exclusiveMinimum" in schema:
        low = f"above {schema['exclusiveMinimum']}"
    elif "minimum" in schema:
        low = f"from {schema['minimum']}"
    else:
        return ""
    return f", {low}, at most {schema['maximum']:,}" if "maximum" in schema else f", {low}"
