"""JSON Schema (2020-12) per event: the CloudEvent in its JSON form, with the data of its type.

Each event has two schemas: `read` is what readers accept, `written` is what our own stages write. The second is
narrower: stages always write members that have a default, leave out members without a value, and write no members of
other names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from typing_extensions import override

from orderflow.contracts.messages import EXTENSIONS
from orderflow.messaging import cloudevent, topics
from orderflow.messaging.makers import MAKERS

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


PUBLISHED_NAMES: Final = {
    "ActionResults": "ActionsOf",
    "AlertWithText": "AlertTold",
    "Comparison": "Compared",
    "EventAccepted": "Taken",
    "EventEdit": "Edit",
    "LedgerEntry": "Entry",
    "OptionalReason": "Why",
    "OrderChange": "Step",
    "RateWithSum": "RateShown",
    "ReceiptWithAddress": "ReceiptShown",
    "ReleaseVerdict": "Released",
    "ReplayRequest": "ReplayMany",
    "RequiredReason": "MustSayWhy",
    "RolloutDetail": "RolloutShown",
    "TimelineEntry": "Turn",
    "WaitingEvent": "Early",
    "WaitingExtension": "Longer",
}
"""The names of classes that the contracts publish under another name: clients generate code from the published ones,
so these stay where a class gets a better name."""


def published_name(model: type[Any]) -> str:
    return PUBLISHED_NAMES.get(model.__name__, model.__name__)


class Read(GenerateJsonSchema):
    """What a reader accepts. Only models have titles; a field's title would repeat its name."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def dict_schema(self, schema: core_schema.DictSchema) -> Json:
        """pydantic puts the pattern of keys into patternProperties, which does not refuse other keys."""
        json_schema = super().dict_schema(schema)
        for pattern, values in json_schema.pop("patternProperties", {}).items():
            json_schema["additionalProperties"] = values
            json_schema["propertyNames"] = json_schema.get("propertyNames", {}) | {"pattern": pattern}
        return json_schema

    @override
    def normalize_name(self, name: str) -> str:
        return super().normalize_name(PUBLISHED_NAMES.get(name, name))

    @override
    def _update_class_schema(self, json_schema: Json, cls: type[Any], config: ConfigDict) -> None:
        json_schema.setdefault("title", published_name(cls))
        super()._update_class_schema(json_schema, cls, config)


class Written(Read):
    """What our stages write: every field that has a value, and no others."""

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
    """What a stage writes that writes every field, null where there is no value."""

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
    """The complete schema of an event, without references to other documents."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in message.models],
        schema_generator=generator(message, side),
        ref_template=_REF,
    )
    data = [{"$ref": _REF.format(model=published_name(model))} for model in message.models]
    return {
        "$schema": DIALECT,
        "$id": f"urn:orderflow:{side}:{message.topic}:{message.event_type}",
        "title": f"{message.event_type} in {message.topic}",
        "description": message.summary,
        "type": "object",
        "properties": _attributes(message, side) | {"data": data[0] if len(data) == 1 else {"anyOf": data}},
        "required": _required(message, side),
        "propertyNames": {"pattern": _anchored(cloudevent.EXTENSION)},
        "additionalProperties": _any_extension(side),
        "$defs": {name: _one_line(schema) for name, schema in sorted(schemas["$defs"].items())},
    }


def _required(message: Message, side: Side) -> list[str]:
    names = ["specversion", "type", "source", "id", "data"]
    if message.subject:
        names.append("subject")
    if side == "written" or message.topic == topics.PARKED:
        names.append("time")
    return names + [name for name in message.required if side == "written" or name != "partitionkey"]


def _attributes(message: Message, side: Side) -> Json:
    identifier = {"type": "string", "pattern": _anchored(cloudevent.ID)}
    source = {"const": message.source} if message.source and side == "written" else identifier
    return {
        "specversion": {"const": "1.0"},
        "type": {"const": message.event_type},
        "source": source,
        "id": identifier,
        "subject": {
            "type": "string",
            "pattern": _anchored(cloudevent.SUBJECT),
            "description": "The order id.",
        },
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"} if side == "read" else {"const": cloudevent.JSON},
    } | {
        name: _extension(name, side) | {"description": EXTENSIONS[name]}
        for name in (*message.required, *message.optional)
    }


def _extension(name: str, side: Side) -> Json:
    """A reader takes an unknown extension of any form. A maker came after the first release, whose producers may have
    used its name, so a reader takes any form of it as well, and passes over what is no revision's name."""
    if name in MAKERS and side == "read":
        return _any_extension(side)
    return {"type": "string", "maxLength": cloudevent.MAX_EXTENSION_LENGTH}


def _any_extension(side: Side) -> Json:
    return {"type": ["string", "integer", "boolean"] if side == "read" else "string"}


def _anchored(pattern: re.Pattern[str]) -> str:
    return f"^{pattern.pattern}$"


def _one_line(schema: Json) -> Json:
    """Joins the lines of a description: the line breaks are the docstring's."""
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else value
        for key, value in schema.items()
    }
