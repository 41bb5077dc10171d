"""The contracts for people: contracts/README.md, generated from the documents."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from orderflow.contracts.messages import all_messages
from orderflow.contracts.schemas import published_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]

_HEAD: Final = """# Contracts

`make contracts` writes this folder from the code's models. Other systems may rely on:

- [openapi/intake.json](openapi/intake.json), [openapi/query.json](openapi/query.json): OpenAPI 3.1
- [asyncapi.json](asyncapi.json): AsyncAPI 3, the topics
- `schemas/`: a JSON Schema (2020-12) per topic and type of event; `read` is what the topic's readers accept,
  `written` what our stages write

A running query serves them under `/contracts`, its own description under `/openapi.json`. New members and types may
appear at any time: ignore what you do not know. A type that loses or changes a member gets a new version.
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
            data = " or ".join(f"[{name}](#{name.lower()})" for name in map(published_name, message.models))
            sides = ("read", "written") if message.written else ("read",)
            links = ", ".join(f"[{side}](schemas/{side}/{message.name}.json)" for side in sides)
            yield f"| `{message.event_type}` | {message.summary} | {data} | {links} |"
        yield ""


def _models(documents: Mapping[str, Json]) -> Iterator[str]:
    definitions: Json = {}
    for message in all_messages():
        definitions |= documents[f"schemas/read/{message.name}.json"]["$defs"]
    yield "## Data\n\nAs readers accept it. Amounts are integers in minor units, times are RFC 3339.\n"
    for name, schema in sorted(definitions.items()):
        if "properties" not in schema:
            continue
        yield f"### {name}\n"
        if "description" in schema:
            yield f"{schema['description']}\n"
        yield "| field | type | |"
        yield "|---|---|---|"
        for field, member in schema["properties"].items():
            required = "required" if field in schema.get("required", ()) else ""
            yield f"| `{field}` | {_type(member, definitions)} | {required} |"
        yield ""


def _type(schema: Json, definitions: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _named(name, definitions[name])
    if "anyOf" in schema:
        return " or ".join(_type(each, definitions) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return _one_of(schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema['items'], definitions)}{_bounds(schema, 'Items', 'entries')}"
    if kind == "string":
        pattern = schema.get("pattern", "")
        shown = f", `{pattern}`" if pattern and "\\x" not in pattern else ""
        return f"text{_bounds(schema, 'Length', 'characters')}{shown.replace('|', chr(92) + '|')}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"map to {_type(inner, definitions)}" if isinstance(inner, dict) else "object"
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
