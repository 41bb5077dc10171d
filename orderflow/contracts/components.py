"""The schemas that the parts of one document share, under `components`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from orderflow.contracts.schemas import published_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

Json = dict[str, Any]

REF: Final = "#/components/schemas/"


class Components:
    """schemas: by name. One model may have several schemas, such as one for readers and one for writers."""

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
        """Adds the schemas of the models and of their parts. Where another schema has the same name, the suffix is
        appended to the name."""
        inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
            (model, mode, TypeAdapter(model)) for model in models
        ]
        top_level, definitions = TypeAdapter.json_schemas(
            inputs, schema_generator=generator, ref_template=REF + "{model}"
        )
        defined: Json = dict(definitions.get("$defs", {}))
        for (model, _), schema in top_level.items():
            if "$ref" not in schema:
                defined.setdefault(published_name(model), schema)
        names = {
            name: name + suffix if self.schemas.get(name, schema) != schema else name
            for name, schema in defined.items()
        }
        for name, schema in defined.items():
            self.schemas[names[name]] = _renamed(schema, names)
        for (model, _), schema in top_level.items():
            own = schema["$ref"].removeprefix(REF) if "$ref" in schema else published_name(model)
            self._names[id(model), generator.__name__] = names[own]

    def ref(self, model: Any, generator: type[GenerateJsonSchema]) -> Json:  # noqa: ANN401 - any type
        return {"$ref": REF + self._names[id(model), generator.__name__]}

    def sorted(self) -> Json:
        return dict(sorted(self.schemas.items()))


def _renamed(schema: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON
    """Renames references, and joins the lines of descriptions: the line breaks are the docstring's."""
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result: Json = {}
    for key, value in schema.items():
        if key == "$ref":
            result[key] = REF + names[value.removeprefix(REF)]
        elif key == "description" and isinstance(value, str):
            result[key] = " ".join(value.split())
        else:
            result[key] = _renamed(value, names)
    return result
