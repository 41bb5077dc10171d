"""The schemas of one document that several of its parts refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

Json = dict[str, Any]

REF: Final = "#/components/schemas/"


class Components:
    """schemas is what goes under `components`. The same model may be described in several ways."""

    def __init__(self) -> None:
        self.schemas: Json = {}
        self._names: dict[tuple[int, str], str] = {}

    def define(
        self,
        models: Iterable[Any],
        generator: type[GenerateJsonSchema],
        mode: JsonSchemaMode = "validation",
        suffix: str = "",
    ) -> None:
        """Adds the schemas of the models and of what they are made of; one whose name another schema has gets the
        suffix."""
        inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
            (model, mode, TypeAdapter(model)) for model in models
        ]
        of, found = TypeAdapter.json_schemas(inputs, schema_generator=generator, ref_template=REF + "{model}")
        defined: Json = dict(found.get("$defs", {}))
        for (model, _), schema in of.items():
            if "$ref" not in schema:
                defined.setdefault(model.__name__, schema)
        names = {
            name: name + suffix if self.schemas.get(name, schema) != schema else name
            for name, schema in defined.items()
        }
        for name, schema in defined.items():
            self.schemas[names[name]] = _renamed(schema, names)
        for (model, _), schema in of.items():
            own = schema["$ref"].removeprefix(REF) if "$ref" in schema else model.__name__
            self._names[id(model), generator.__name__] = names[own]

    def ref(self, model: Any, generator: type[GenerateJsonSchema]) -> Json:  # noqa: ANN401 - any type
        return {"$ref": REF + self._names[id(model), generator.__name__]}

    def sorted(self) -> Json:
        return dict(sorted(self.schemas.items()))


def _renamed(schema: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON
    """References follow their schemas' new names. A description is one line: its breaks are the code's."""
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: Json = {}
    for key, value in schema.items():
        if key == "$ref":
            found[key] = REF + names[value.removeprefix(REF)]
        elif key == "description" and isinstance(value, str):
            found[key] = " ".join(value.split())
        else:
            found[key] = _renamed(value, names)
    return found
