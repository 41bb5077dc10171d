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
    "a member that is not known": (an_object(a=TEXT, b=WHOLE), an_object(a=TEXT), "b: this is not known"),
    "a member that is required now": (an_object(a=TEXT), an_object(["a"], a=TEXT), "a: this may be missing"),
    "a member of another type": (an_object(a=WHOLE), an_object(a=TEXT), "a: integer is not taken, string is"),
    "null is taken no more": ({"anyOf": [TEXT, {"type": "null"}]}, TEXT, "null is not taken"),
    "a number for an integer": ({"type": "number"}, WHOLE, "number is not taken"),
    "a value that is gone": ({"enum": ["a", "b"]}, {"enum": ["a"]}, "the value 'b' is not taken"),
    "any text for one of a list": (TEXT, {"enum": ["a"]}, "anything but 'a'"),
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
        "[]: string is not taken",
    ),
    "anything in a list": ({"type": "array"}, {"type": "array", "items": WHOLE}, "[]: null is not taken"),
    "any member of a map": (OPEN, {"type": "object", "additionalProperties": WHOLE}, "*: null is not taken"),
    "a member that a map would take for another": (
        {"type": "object", "additionalProperties": WHOLE},
        {"type": "object", "properties": {"a": TEXT}},
        "a: integer is not taken",
    ),
    "names that are not allowed": (
        an_object(b=TEXT),
        {"type": "object", "propertyNames": {"pattern": "^a"}},
        "b: this is no name that is taken",
    ),
    "any name": (OPEN, {"type": "object", "propertyNames": {"pattern": "^a"}}, "(names): pattern is ^a"),
    "nothing is taken": (TEXT, False, "this is not taken at all"),
    "deep inside": (
        {"$ref": "#/$defs/A", "$defs": {"A": an_object(b={"type": "array", "items": an_object(c=WHOLE)})}},
        {"$ref": "#/$defs/A", "$defs": {"A": an_object(b={"type": "array", "items": an_object(c=TEXT)})}},
        "b[].c: integer is not taken",
    ),
}


@pytest.mark.parametrize(("narrow", "wide"), FITS.values(), ids=FITS.keys())
def test_what_allows_less_fits(narrow: Schema, wide: Schema) -> None:
    assert excess(narrow, wide) == []


@pytest.mark.parametrize(("narrow", "wide", "told"), EXCEEDS.values(), ids=EXCEEDS.keys())
def test_what_allows_more_is_told_with_its_place(narrow: Schema, wide: Schema, told: str) -> None:
    found = [str(each) for each in excess(narrow, wide)]
    assert any(told in each for each in found), found


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


def schemas(depth: int = 2) -> st.SearchStrategy[Schema]:
    small = st.integers(0, 3)
    texts = st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": small, "maxLength": small, "pattern": st.sampled_from(["^a", "^[ab]*$"])},
    )
    numbers = st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional=dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), small),
    )
    plain = st.one_of(
        texts,
        numbers,
        st.just({"type": "null"}),
        st.just({}),
        st.lists(st.sampled_from(["a", "ab", 1, None]), min_size=1, unique=True).map(
            lambda values: {"enum": values}
        ),
    )
    if depth == 0:
        return plain
    inner = schemas(depth - 1)
    lists = st.fixed_dictionaries(
        {"type": st.just("array")}, optional={"items": inner, "minItems": small, "maxItems": small}
    )
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
            "required": st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2),
            "additionalProperties": st.one_of(st.booleans(), inner),
            "propertyNames": st.just({"pattern": "^[ab]"}),
        },
    )
    unions = st.lists(inner, min_size=1, max_size=2).map(lambda branches: {"anyOf": branches})
    return st.one_of(plain, lists, objects, unions)


def documents(depth: int = 2) -> st.SearchStrategy[Any]:
    plain = st.sampled_from([None, True, 0, 1, 2, 3, 4, 1.5, "", "a", "b", "ab", "abc", "abcd"])
    if depth == 0:
        return plain
    inner = documents(depth - 1)
    names = st.sampled_from(["a", "b", "c", "d"])
    return st.one_of(plain, st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=3))


@settings(max_examples=500, deadline=None)
@given(data=st.data(), narrow=schemas(), other=schemas())
def test_no_document_of_a_schema_that_fits_is_refused(
    data: st.DataObject, narrow: Schema, other: Schema
) -> None:
    wide = data.draw(st.sampled_from([narrow, other, {"anyOf": [other, narrow]}]))
    if excess(narrow, wide):
        return
    for document in data.draw(st.lists(documents(), min_size=10, max_size=30)):
        if Draft202012Validator(narrow).is_valid(document):
            assert Draft202012Validator(wide).is_valid(document)
