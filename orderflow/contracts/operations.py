"""Operations over HTTP as data, and the OpenAPI 3.1 document of such operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from orderflow.adapters.http import problems
from orderflow.contracts.answers import Problem
from orderflow.contracts.components import Components
from orderflow.contracts.schemas import Read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import core_schema

    from orderflow.domain.orders import Frozen

Json = dict[str, Any]

JSON: Final = "application/json"
_SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {"basic": []}]
_SCHEMES: Final[Json] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The key's name, and the key as the password.",
    },
}
SESSION: Final[Json] = {
    "type": "apiKey",
    "in": "cookie",
    "name": "__Host-orderflow",
    "description": "The session of a person who logged in at the console by OpenID Connect, at /login.",
}
"""One more scheme, for query."""


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    location: str
    schema: Json
    text: str
    required: bool = False

    def document(self) -> Json:
        return {
            "name": self.name,
            "in": self.location,
            "required": self.required or self.location == "path",
            "description": self.text,
            "schema": self.schema,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The response with one status. media: the content types of the body. model: the body's type; None means text."""

    status: int
    text: str
    model: Any = None
    media: tuple[str, ...] = (JSON,)
    headers: tuple[tuple[str, str], ...] = ()
    schema: Json | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request, by content type: a model, or a schema that refers to models by their published names."""

    content: dict[str, Any]
    required: bool = True
    models: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """query: the model of the query string."""

    method: str
    path: str
    id: str
    text: str
    tag: str
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    query: type[Frozen] | None = None
    body: Body | None = None
    details: str = ""


class Answered(Read):
    """Response schema: all members are required unless they default to None. closed: no other members are allowed; for
    tests, since clients ignore members that they do not know."""

    closed = False

    @override
    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        if field["type"] == "typed-dict-field":
            return field.get("required", total)
        schema: Any = field["schema"]
        return not (schema["type"] == "default" and schema.get("default", ...) is None)

    @override
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Json:
        return self.generate_inner(schema["schema"])

    @override
    def _update_class_schema(self, json_schema: Json, cls: type[Any], config: Any) -> None:
        super()._update_class_schema(json_schema, cls, config)
        if self.closed:
            json_schema["additionalProperties"] = False


class ClosedAnswered(Answered):
    closed = True


def problem(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, text, Problem, (problems.CONTENT_TYPE,), headers)


@dataclass(slots=True)
class Description:
    """An OpenAPI document. strict: responses may have only the members that are described. session: a person's
    session is as good as a key."""

    info: Json
    server: Json
    operations: Sequence[Operation]
    strict: bool = False
    session: bool = False
    _components: Components = field(default_factory=Components)

    def document(self) -> Json:
        request_models, response_models = self._models()
        self._components.define(request_models, Read)
        self._components.define(response_models, self._answered, "serialization", "Answered")
        paths: Json = {}
        for operation in self.operations:
            paths.setdefault(operation.path, {})[operation.method] = self._operation(operation)
        return {
            "openapi": "3.1.1",
            "info": self.info,
            "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
            "servers": [self.server],
            "security": [*_SECURITY, *([{"session": []}] if self.session else [])],
            "tags": [{"name": name} for name in dict.fromkeys(each.tag for each in self.operations)],
            "paths": paths,
            "components": {
                "schemas": self._components.sorted(),
                "securitySchemes": _SCHEMES | ({"session": SESSION} if self.session else {}),
            },
        }

    @property
    def _answered(self) -> type[Answered]:
        return ClosedAnswered if self.strict else Answered

    def _models(self) -> tuple[list[Any], list[Any]]:
        request_models = [
            model
            for operation in self.operations
            for model in (
                (*operation.body.content.values(), *operation.body.models) if operation.body else ()
            )
            if not isinstance(model, dict)
        ]
        response_models = [
            answer.model for each in self.operations for answer in each.answers if answer.model is not None
        ]
        return list(dict.fromkeys(request_models)), list(dict.fromkeys(response_models))

    def _operation(self, operation: Operation) -> Json:
        parameters = [parameter.document() for parameter in operation.parameters]
        if operation.query is not None:
            parameters += list(_arguments(operation.query))
        document: Json = {"operationId": operation.id, "summary": operation.text, "tags": [operation.tag]}
        if operation.details:
            document["description"] = operation.details
        if parameters:
            document["parameters"] = parameters
        if operation.body is not None:
            content = {
                media: {"schema": model if isinstance(model, dict) else self._components.ref(model, Read)}
                for media, model in operation.body.content.items()
            }
            document["requestBody"] = {"required": operation.body.required, "content": content}
        by_status = sorted(operation.answers, key=lambda each: each.status)
        document["responses"] = {str(answer.status): self._answer(answer) for answer in by_status}
        return document

    def _answer(self, answer: Answer) -> Json:
        document: Json = {"description": answer.text or HTTPStatus(answer.status).phrase}
        if answer.headers:
            document["headers"] = {
                name: {"description": text, "required": True, "schema": {"type": "string"}}
                for name, text in answer.headers
            }
        schema = answer.schema or (
            self._components.ref(answer.model, self._answered)
            if answer.model is not None
            else {"type": "string"}
        )
        document["content"] = {media: {"schema": schema} for media in answer.media}
        return document


def _arguments(model: type[Frozen]) -> Iterator[Json]:
    schema = model.model_json_schema(schema_generator=Read)
    definitions = schema.get("$defs", {})
    for name, member in schema["properties"].items():
        plain = {key: value for key, value in member.items() if key != "title"}
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _inlined(_without_null(plain), definitions),
        }


def _without_null(schema: Json) -> Json:
    """A query string has no null: a missing argument stands for it."""
    branches: list[Json] = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        rest.pop("default")
    if len(branches) == 1:
        return rest | branches[0]
    return rest | {"anyOf": branches} if branches else rest


def _inlined(schema: Any, definitions: Json) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target: Json = definitions[schema["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {key: value for key, value in target.items() if key != "title"} | rest
    return {key: _inlined(value, definitions) for key, value in schema.items()}
