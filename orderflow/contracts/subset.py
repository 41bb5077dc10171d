"""Whether every document that one JSON Schema allows is also allowed by another.

The comparison covers the part of draft 2020-12 that our models use. Any other keyword raises NotUnderstoodError, so
that no schema counts as compatible because a keyword was ignored. `format` counts as an assertion. Where it cannot be
shown that all documents fit, for example for two patterns, the answer is no.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = Any
Schema = dict[str, Json] | bool

_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_DEFINITIONS: Final = "$defs"
_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", _DEFINITIONS, "$comment", "title", "description", "default", "examples", "deprecated"}
)
_KEYWORDS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format", "contentEncoding"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset(
        {"properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"}
    ),
}
_ANY_TYPE: Final = frozenset({"type", "const", "enum", "anyOf", "$ref"})
_KNOWN: Final = _ANY_TYPE.union(_ANNOTATIONS, *_KEYWORDS.values())
_LOWEST: Final = ("minLength", "minItems", "minProperties")
_HIGHEST: Final = ("maxLength", "maxItems", "maxProperties")
_MAX_PATH_LENGTH: Final = 1000


class NotUnderstoodError(Exception):
    """The schema has a keyword that cannot be compared; the message names the keyword and its place."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A value that one schema allows and the other may refuse: its path in the document, and why."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path or 'the event'}: {self.text}"


def excess(narrow: Schema, wide: Schema) -> list[Finding]:
    """What `narrow` allows and `wide` may refuse; empty where every document of `narrow` fits `wide`.

    Both are complete documents whose references lead into their own `$defs`. Raises NotUnderstoodError.
    """
    return list(_Comparison(narrow, wide).compare(narrow, wide, ""))


class _Comparison:
    def __init__(self, narrow: Schema, wide: Schema) -> None:
        self._narrow = narrow
        self._wide = wide

    def compare(self, narrow: Schema, wide: Schema, path: str) -> Iterator[Finding]:
        if len(path) > _MAX_PATH_LENGTH:
            raise NotUnderstoodError(f"{path[:80]}...: a schema that refers to itself")
        a, b = _resolved(narrow, self._narrow, path), _resolved(wide, self._wide, path)
        if b is True or a is False:
            return
        if b is False:
            yield Finding(path, "nothing is accepted here")
        elif a is True:
            yield from self._branches([{"type": each} for each in _TYPES], b, path)
        elif "anyOf" in a:
            yield from self._branches(_only_branches(a, path), b, path)
        elif "const" in a or "enum" in a:
            yield from self._values(a["enum"] if "enum" in a else [a["const"]], b, path)
        elif isinstance(a.get("type", list(_TYPES)), list):
            yield from self._branches([a | {"type": each} for each in a.get("type", _TYPES)], b, path)
        elif "anyOf" in b:
            yield from self._some(a, b["anyOf"], path)
        else:
            yield from self._of_one_type(a, b, path)

    def _branches(self, branches: list[Schema], wide: dict[str, Json], path: str) -> Iterator[Finding]:
        for branch in branches:
            yield from self.compare(branch, wide, path)

    def _some(self, narrow: dict[str, Json], branches: list[Schema], path: str) -> Iterator[Finding]:
        """The whole schema must fit one branch. The findings are those of the branch that fits best."""
        misses = [list(self.compare(narrow, branch, path)) for branch in branches]
        yield from min(misses, key=lambda miss: (len(miss), -max(map(_depth, miss), default=0)))

    def _values(self, values: list[Json], wide: dict[str, Json], path: str) -> Iterator[Finding]:
        whole = {_DEFINITIONS: self._wide.get(_DEFINITIONS, {})} if isinstance(self._wide, dict) else {}
        validator = Draft202012Validator(whole | wide, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for value in values:
            if not validator.is_valid(value):
                yield Finding(path, f"the value {value!r} is not accepted")

    def _of_one_type(self, a: dict[str, Json], b: dict[str, Json], path: str) -> Iterator[Finding]:
        kind = a["type"]
        types = b.get("type", _TYPES)
        types = [types] if isinstance(types, str) else types
        if kind not in types and not (kind == "integer" and "number" in types):
            yield Finding(path, f"{kind} is not accepted, {' or '.join(types)} is")
        elif "const" in b or "enum" in b:
            allowed = b["enum"] if "enum" in b else [b["const"]]
            yield Finding(path, f"nothing but {', '.join(map(repr, allowed))} is accepted")
        else:
            yield from _bounds(a, b, path)
            if kind == "object":
                yield from self._members(a, b, path)
            elif kind == "array" and a.get("maxItems") != 0:
                yield from self.compare(a.get("items", True), b.get("items", True), f"{path}[]")

    def _members(self, a: dict[str, Json], b: dict[str, Json], path: str) -> Iterator[Finding]:
        mine: dict[str, Schema] = a.get("properties", {})
        theirs: dict[str, Schema] = b.get("properties", {})
        rest_of_mine: Schema = a.get("additionalProperties", True)
        rest_of_theirs: Schema = b.get("additionalProperties", True)
        for name in b.get("required", ()):
            if name not in a.get("required", ()):
                yield Finding(_member(path, name), "this may be missing, but is required")
        for name, schema in mine.items():
            if schema is False:
                continue
            if name not in theirs and rest_of_theirs is False:
                yield Finding(_member(path, name), "this member is unknown")
            else:
                wide: Schema = theirs.get(name, rest_of_theirs)
                yield from self.compare(schema, wide, _member(path, name))
        if rest_of_mine is False:
            yield from _names(set(mine), b, path)
            return
        for name in sorted(theirs.keys() - mine.keys()):
            yield from self.compare(rest_of_mine, theirs[name], _member(path, name))
        yield from self.compare(rest_of_mine, rest_of_theirs, _member(path, "*"))
        if "propertyNames" in b:
            yield from _names(set(mine), b, path)
            names: Schema = a.get("propertyNames", {})
            yield from self.compare(
                names | {"type": "string"} if isinstance(names, dict) else names,
                b["propertyNames"],
                f"{path} (names)",
            )


def _resolved(schema: Schema, document: Schema, path: str) -> Schema:
    """Follows references at the top of the schema. `{}` becomes True."""
    seen = 0
    while isinstance(schema, dict):
        unknown = schema.keys() - _KNOWN
        if unknown:
            raise NotUnderstoodError(f"{path or 'the event'}: {', '.join(sorted(unknown))}")
        if "$ref" not in schema:
            return schema if schema.keys() - _ANNOTATIONS else True
        rest = schema.keys() - _ANNOTATIONS - {"$ref"}
        prefix, _, name = schema["$ref"].rpartition("/")
        definitions = document.get(_DEFINITIONS, {}) if isinstance(document, dict) else {}
        seen += 1
        if rest or prefix != f"#/{_DEFINITIONS}" or name not in definitions or seen > len(definitions):
            raise NotUnderstoodError(f"{path or 'the event'}: the reference {schema['$ref']}")
        schema = definitions[name]
    return schema


def _only_branches(schema: dict[str, Json], path: str) -> list[Schema]:
    rest = schema.keys() - _ANNOTATIONS - {"anyOf"}
    if rest:
        raise NotUnderstoodError(f"{path or 'the event'}: anyOf beside {', '.join(sorted(rest))}")
    branches: list[Schema] = schema["anyOf"]
    return branches


def _bounds(a: dict[str, Json], b: dict[str, Json], path: str) -> Iterator[Finding]:
    kind = "number" if a["type"] == "integer" else a["type"]
    bounds = _KEYWORDS.get(kind, frozenset())
    for name in _LOWEST:
        if name in bounds and b.get(name, 0) > a.get(name, 0):
            yield Finding(path, f"{name} is {b[name]}, here it is {a.get(name, 0)}")
    for name in _HIGHEST:
        if name in bounds and name in b and (name not in a or a[name] > b[name]):
            yield Finding(path, f"{name} is {b[name]}, here it is {a.get(name, 'not set')}")
    if kind == "string":
        yield from _forms(a, b, path)
    if kind == "number":
        yield from _ranges(a, b, path)


def _forms(a: dict[str, Json], b: dict[str, Json], path: str) -> Iterator[Finding]:
    for name in ("pattern", "format", "contentEncoding"):
        if name in b and a.get(name) != b[name]:
            yield Finding(path, f"{name} is {b[name]}, here it is {a.get(name, 'not set')}")


def _ranges(a: dict[str, Json], b: dict[str, Json], path: str) -> Iterator[Finding]:
    sides: list[tuple[str, str, Callable[[float, float], bool]]] = [
        ("minimum", "exclusiveMinimum", lambda mine, limit: mine >= limit),
        ("maximum", "exclusiveMaximum", lambda mine, limit: mine <= limit),
    ]
    for inclusive, exclusive, within in sides:
        for name in (inclusive, exclusive):
            if name not in b:
                continue
            limit = b[name]
            closed = (
                inclusive in a
                and within(a[inclusive], limit)
                and (name == inclusive or a[inclusive] != limit)
            )
            open_ = exclusive in a and within(a[exclusive], limit)
            if not (closed or open_):
                yield Finding(
                    path, f"{name} is {limit}, here it is {a.get(inclusive, a.get(exclusive, 'not set'))}"
                )


def _names(names: set[str], b: dict[str, Json], path: str) -> Iterator[Finding]:
    """Compares the members' names with the pattern that names must have."""
    validator = Draft202012Validator(b.get("propertyNames", True))
    for name in sorted(names):
        if not validator.is_valid(name):
            yield Finding(_member(path, name), "this name is not accepted")


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _depth(finding: Finding) -> int:
    return finding.path.count(".")
