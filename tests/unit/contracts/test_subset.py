"""Does one schema allow only what another allows? By table, and against documents drawn at random."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orderflow.contracts.subset import NotUnderstoodError, excess

Schema = dict[str, Any]


def an_object(required: list[str] | None = None, **properties: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
OPEN: Schema = {"type": "object"}

FITS = {
    "the same": (an_object(a=TEXT), an_object(a=TEXT)),
    "one more optional member": (an_object(a=TEXT), an_object(a=TEXT, b=WHOLE)),
    "a member that is required no more": (an_object(["a"], a=TEXT), an_object(a=TEXT)),
    "an integer for a number": (WHOLE, {"type": "number"}),
    "null is taken too": (TEXT, {"anyOf": [TEXT, {"type": "null"}]}),
    "more types": (TEXT, {"type": ["string", "integer"]}),
    "anything is taken": ({"anyOf": [TEXT, OPEN]}, {}),
    "a value of the list": ({"const": "a"}, {"enum": ["a", "b"]}),
    "a longer list": ({"enum": ["a"]}, {"enum": ["a", "b"]}),
    "a value that fits the pattern": ({"const": "ab"}, {"type": "string", "pattern": "^a"}),
    "wider bounds": ({"type": "integer", "minimum": 1, "maximum": 5}, {"type": "integer", "minimum": 0}),
    "an open bound beyond": (
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "a closed bound within an open one": (
        {"type": "integer", "minimum": 1},
        {"type": "integer", "exclusiveMinimum": 0},
    ),
    "longer texts": ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 6}),
    "a pattern no more": ({"type": "string", "pattern": "^a"}, TEXT),
    "fewer items": ({"type": "array", "items": WHOLE, "maxItems": 2}, {"type": "array", "maxItems": 3}),
    "an empty list of anything": ({"type": "array", "maxItems": 0}, {"type": "array", "items": WHOLE}),
    "members of a map": (
        {"type": "object", "additionalProperties": WHOLE, "propertyNames": {"pattern": "^a"}},
        {"type": "object", "additionalProperties": {"type": "number"}, "propertyNames": {"pattern": "^a"}},
    ),
    "unknown members are passed over": (
        an_object(a=TEXT, b=WHOLE),
        an_object(a=TEXT) | {"additionalProperties": True},
    ),
    "another name for the same": (
        {"$ref": "#/$defs/A", "$defs": {"A": TEXT}},
        {"$ref": "#/$defs/B", "$defs": {"B": TEXT}},
    ),
    "titles do not count": (TEXT | {"title": "A", "description": "a"}, TEXT | {"title": "B"}),
}

EXCEEDS = {
    "a member that is not known": (
        an_object(a=TEXT, b=WHOLE),
        an_object(a=TEXT),
        "b: this member is unknown",
    ),
    "a member that is required now": (an_object(a=TEXT), an_object(["a"], a=TEXT), "a: this may be missing"),
    "a member of another type": (
        an_object(a=WHOLE),
        an_object(a=TEXT),
        "a: integer is not accepted, string is",
    ),
    "null is taken no more": ({"anyOf": [TEXT, {"type": "null"}]}, TEXT, "null is not accepted"),
    "a number for an integer": ({"type": "number"}, WHOLE, "number is not accepted"),
    "a value that is gone": ({"enum": ["a", "b"]}, {"enum": ["a"]}, "the value 'b' is not accepted"),
    "any text for one of a list": (TEXT, {"enum": ["a"]}, "nothing but 'a'"),
    "a lower maximum": (WHOLE | {"maximum": 9}, WHOLE | {"maximum": 5}, "maximum is 5, here it is 9"),
    "a maximum where none was": (WHOLE, WHOLE | {"maximum": 5}, "maximum is 5"),
    "a closed bound at an open one": (
        WHOLE | {"minimum": 0},
        WHOLE | {"exclusiveMinimum": 0},
        "exclusiveMinimum is 0",
    ),
    "shorter texts": (TEXT | {"maxLength": 6}, TEXT | {"maxLength": 5}, "maxLength is 5"),
    "texts that may be empty": (TEXT, TEXT | {"minLength": 1}, "minLength is 1"),
    "another pattern": (TEXT | {"pattern": "^ab"}, TEXT | {"pattern": "^a"}, "pattern is ^a"),
    "another format": (TEXT, TEXT | {"format": "date-time"}, "format is date-time"),
    "another encoding": (TEXT, TEXT | {"contentEncoding": "base64"}, "contentEncoding is base64"),
    "items of another type": (
        {"type": "array", "items": TEXT},
        {"type": "array", "items": WHOLE},
        "[]: string is not accepted",
    ),
    "anything in a list": ({"type": "array"}, {"type": "array", "items": WHOLE}, "[]: null is not accepted"),
    "any member of a map": (
        OPEN,
        {"type": "object", "additionalProperties": WHOLE},
        "*: null is not accepted",
    ),
    "a member that a map would take for another": (
        {"type": "object", "additionalProperties": WHOLE},
        {"type": "object", "properties": {"a": TEXT}},
        "a: integer is not accepted",
    ),
    "names that are not allowed": (
        an_object(b=TEXT),
        {"type": "object", "propertyNames": {"pattern": "^a"}},
        "b: this name is not accepted",
    ),
    "any name": (OPEN, {"type": "object", "propertyNames": {"pattern": "^a"}}, "(names): pattern is ^a"),
    "nothing is taken": (TEXT, False, "nothing is accepted here"),
    "deep inside": (
        {"$ref": "#/$defs/A", "$defs": {"A": an_object(b={"type": "array", "items": an_object(c=WHOLE)})}},
        {"$ref": "#/$defs/A", "$defs": {"A": an_object(b={"type": "array", "items": an_object(c=TEXT)})}},
        "b[].c: integer is not accepted",
    ),
}


@pytest.mark.parametrize(("narrow", "wide"), FITS.values(), ids=FITS.keys())
def test_what_allows_less_fits(narrow: Schema, wide: Schema) -> None:
    assert excess(narrow, wide) == []


@pytest.mark.parametrize(("narrow", "wide", "expected"), EXCEEDS.values(), ids=EXCEEDS.keys())
def test_what_allows_more_is_named_with_its_place(narrow: Schema, wide: Schema, expected: str) -> None:
    findings = [str(finding) for finding in excess(narrow, wide)]
    assert any(expected in finding for finding in findings), findings


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [TEXT]},
        {"type": "integer", "multipleOf": 2},
        {"anyOf": [TEXT], "type": "string"},
        {"$ref": "other.json#/a"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": an_object(child={"$ref": "#/$defs/A"})}},
    ],
)
def test_what_is_not_understood_is_never_taken_for_compatible(schema: Schema) -> None:
    with pytest.raises(NotUnderstoodError):
        excess(schema, schema | {"description": "the other"})


SMALL = st.integers(0, 3)
NAMES = st.sampled_from(["a", "b", "c"])


def keywords(kind: str, depth: int) -> dict[str, st.SearchStrategy[Any]]:
    """What a schema of that type may say."""
    inner = schemas(depth - 1) if depth else st.just({"type": "string"})
    if kind == "string":
        pattern = st.sampled_from(["^a", "^[ab]*$"])
        return {"minLength": SMALL, "maxLength": SMALL, "pattern": pattern}
    if kind in {"integer", "number"}:
        return dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), SMALL)
    if kind == "array":
        return {"items": inner, "minItems": SMALL, "maxItems": SMALL}
    if kind == "object":
        return {
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, unique=True, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "propertyNames": st.just({"pattern": "^[ab]"}),
            "minProperties": SMALL,
            "maxProperties": SMALL,
        }
    return {}


def typed(kind: str, depth: int) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries({"type": st.just(kind)}, optional=keywords(kind, depth))


def schemas(depth: int) -> st.SearchStrategy[Schema]:
    kinds = ["object", "array", "string", "integer", "number", "null"]
    values = st.lists(st.sampled_from(["a", "ab", 1, None]), min_size=1, unique=True)
    strategies = [typed(kind, depth) for kind in kinds] + [
        st.just({}),
        values.map(lambda each: {"enum": each}),
    ]
    if depth:
        branches = st.lists(schemas(depth - 1), min_size=1, max_size=2)
        strategies.append(branches.map(lambda each: {"anyOf": each}))
    return st.one_of(strategies)


@st.composite
def nearly(draw: st.DrawFn, schema: Schema) -> Schema:
    """The schema with one keyword more, less or other, at its top or in one of its members."""
    members = schema.get("properties")
    if members and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(members)))
        return schema | {"properties": members | {name: draw(nearly(members[name]))}}
    candidates = keywords(schema.get("type", ""), 1)
    if not candidates:
        return draw(schemas(1))
    name = draw(st.sampled_from(sorted(candidates)))
    rest = {key: value for key, value in schema.items() if key != name}
    return rest if draw(st.booleans()) and name in schema else rest | {name: draw(candidates[name])}


PLAIN = (None, True, 0, 1, 2, 3, 1.5, "", "a", "b", "ab", "abcd")
FEW = (None, 0, 2, 1.5, "a", "abcd")
DOCUMENTS: list[Any] = [
    *PLAIN,
    *([each] * number for each in FEW for number in range(5)),
    *([each, other] for each in FEW for other in FEW),
    *(
        {name: each}
        for name in "abc"
        for each in [*PLAIN, [], ["a"], [0], {}, {"a": "a"}, {"b": 0}, {"c": None}]
    ),
    *({"a": each, name: other} for name in "bc" for each in FEW for other in FEW),
    *([{name: each}] for name in "abc" for each in FEW),
    {"a": 0, "b": 0, "c": 0},
    {"a": "a", "b": "b", "c": "ab"},
    {},
]
"""All small ones of what the schemas here are about."""


@settings(max_examples=250)
@given(data=st.data())
def test_no_document_of_a_schema_that_fits_is_refused(data: st.DataObject) -> None:
    kinds = st.sampled_from(["object", "object", "array", "string", "integer", "number"])
    narrow = data.draw(
        typed(data.draw(kinds), 1) if data.draw(st.integers(0, 4)) else schemas(2), label="narrow"
    )
    if data.draw(st.integers(0, 4)):
        wide = data.draw(nearly(narrow), label="wide")
    else:
        wide = data.draw(st.sampled_from([data.draw(schemas(1)), {"anyOf": [data.draw(schemas(1)), narrow]}]))
    if excess(narrow, wide):
        return
    allowed, accepted = Draft202012Validator(narrow), Draft202012Validator(wide)
    assert [each for each in DOCUMENTS if allowed.is_valid(each) and not accepted.is_valid(each)] == []
