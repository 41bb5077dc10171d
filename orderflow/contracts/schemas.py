"""JSON Schema (2020-12) per event: the CloudEvent in its JSON form, with the data of its type.

Two of each. What is read is what the readers take; what is written is what our own stages write, which is less: they
always write what has a default, leave out what is missing, and add nothing that they do not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from typing_extensions import override

from orderflow.contracts.messages import EXTENSIONS
from orderflow.messaging import cloudevent, topics

if TYPE_CHECKING:
    import re

    from pydantic import ConfigDict
    from pydantic_core import core_schema

    from orderflow.contracts.messages import Message

Json = dict[str, Any]
Side = Literal["read", "written"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SIDES: Final[tuple[Side, ...]] = ("read", "written")
_REF: Final = "#/$defs/{model}"


class Read(GenerateJsonSchema):
    """What a reader takes. Titles repeat names, so there are only those of models."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def dict_schema(self, schema: core_schema.DictSchema) -> Json:
        """pydantic puts a key's pattern into patternProperties, which lets other keys pass."""
        found = super().dict_schema(schema)
        for pattern, values in found.pop("patternProperties", {}).items():
            found["additionalProperties"] = values
            found["propertyNames"] = found.get("propertyNames", {}) | {"pattern": pattern}
        return found


class Written(Read):
    """What a writer of ours writes: every field but what has no value, and no other."""

    @override
    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        schema: Any = field["schema"]
        while schema["type"] == "default":
            schema = schema["schema"]
        return bool(schema["type"] != "nullable")

    @override
    def nullable_schema(self, schema: core_schema.NullableSchema) -> Json:
        return self.generate_inner(schema["schema"])

    @override
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Json:
        return self.generate_inner(schema["schema"])

    @override
    def _update_class_schema(self, json_schema: Json, cls: type[Any], config: ConfigDict) -> None:
        super()._update_class_schema(json_schema, cls, config)
        json_schema["additionalProperties"] = False


class WrittenWithNulls(Written):
    """A writer that writes every field, null where there is no value."""

    @override
    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return True

    @override
    def nullable_schema(self, schema: core_schema.NullableSchema) -> Json:
        return GenerateJsonSchema.nullable_schema(self, schema)


def generator(message: Message, side: Side) -> type[Read]:
    if side == "read" or not message.written:
        return Read
    return WrittenWithNulls if message.nulls else Written


def event(message: Message, side: Side) -> Json:
    """The whole schema of an event, on its own: it refers to nothing outside."""
    kind = generator(message, side)
    _, found = models_json_schema(
        [(model, "validation") for model in message.models], schema_generator=kind, ref_template=_REF
    )
    names = [model.__name__ for model in message.models]
    data = [{"$ref": f"#/$defs/{name}"} for name in names]
    return {
        "$schema": DIALECT,
        "$id": f"urn:orderflow:{side}:{message.topic}:{message.event_type}",
        "title": f"{message.event_type} in {message.topic}",
        "description": message.summary,
        "type": "object",
        "properties": _attributes(message, side) | {"data": data[0] if len(data) == 1 else {"anyOf": data}},
        "required": _required(message, side),
        "propertyNames": {"pattern": _whole(cloudevent.EXTENSION)},
        "additionalProperties": {"type": ["string", "integer", "boolean"] if side == "read" else "string"},
        "$defs": {name: _one_line(schema) for name, schema in sorted(found["$defs"].items())},
    }


def _required(message: Message, side: Side) -> list[str]:
    needed = ["specversion", "type", "source", "id", "data"]
    if message.subject:
        needed.append("subject")
    if side == "written" or message.topic == topics.PARKED:
        needed.append("time")
    return needed + [name for name in message.required if side == "written" or name != "partitionkey"]


def _attributes(message: Message, side: Side) -> Json:
    identifier = {"type": "string", "pattern": _whole(cloudevent.ID)}
    source = {"const": message.source} if message.source and side == "written" else identifier
    return {
        "specversion": {"const": "1.0"},
        "type": {"const": message.event_type},
        "source": source,
        "id": identifier,
        "subject": {"type": "string", "pattern": _whole(cloudevent.SUBJECT), "description": "The order id."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"} if side == "read" else {"const": cloudevent.JSON},
    } | {
        name: {
            "type": "string",
            "maxLength": cloudevent.MAX_EXTENSION_LENGTH,
            "description": EXTENSIONS[name],
        }
        for name in (*message.required, *message.optional)
    }


def _whole(pattern: re.Pattern[str]) -> str:
    return f"^{pattern.pattern}$"


def _one_line(schema: Json) -> Json:
    """A docstring's line breaks are the code's."""
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else value
        for key, value in schema.items()
    }
