"""Schema errors as sentences at their places."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.errors import Place, Problem
from tulle.spec.load import Schema, load_document, validate


def check(
    text: str, schema: dict[str, Any], root: tuple[str | int, ...] = (), where: str = ""
) -> list[Problem]:
    return validate(load_document(text, name="f"), schema, root, where=where)


def one(text: str, schema: dict[str, Any]) -> Problem:
    (only,) = check(text, {"properties": {"a": schema}})
    return only


CLOSED = {
    "type": "object",
    "required": ["description"],
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string", "description": "what it is"},
        "size": {"type": "integer", "minimum": 1},
    },
}


def test_what_fits_has_no_problems() -> None:
    assert check("description: x\nsize: 3", CLOSED) == []
    assert check("[description]", {"type": "array"}, ()) == []


def test_all_errors_at_once_in_the_order_of_the_file() -> None:
    found = check("size: 0\nother: 1\ndescription: 5\n", CLOSED)
    assert [(p.place, p.message) for p in found] == [
        (Place("f", 1, 7), "'size' is the number 0, expected at least 1"),
        (Place("f", 2, 1), "unknown property 'other'"),
        (Place("f", 3, 14), "'description' is the number 5, expected text"),
    ]
    assert found[1].hint == "known: description, size"
    assert found[2].hint == "put it in quotes: '5'"
    assert found[2].source_line == "description: 5"


def test_the_place_is_that_of_the_part_under_the_root() -> None:
    text = "x:\n- p: {size: 2, descripton: y}\n"
    (found,) = check(text, CLOSED, ("x", 0, "p"), "data-set 'd'")
    assert found.message == "unknown property 'descripton' in data-set 'd'"
    assert (found.place, found.hint) == (Place("f", 2, 16), "did you mean 'description'?")


def test_a_missing_property_is_told_with_what_it_is() -> None:
    (found,) = check("x: {size: 2}", {"properties": {"x": CLOSED}})
    assert found.message == "'description' is missing in 'x'"
    assert found.hint == "description: what it is"
    assert found.place == Place("f", 1, 1)


def test_a_misspelt_property_is_not_told_as_missing_too() -> None:
    (found,) = check("descripton: x", CLOSED)
    assert found.message == "unknown property 'descripton'"


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y"])
def test_booleans_of_yaml_1_1(word: str) -> None:
    found = one(f"a: {word}", {"type": "boolean"})
    assert found.message == f"'a' is the text '{word}', expected true or false"
    assert "write true or false" in (found.hint or "")
    assert check(f"a: {word}", {"properties": {"a": {"type": "string"}}}) == []


@pytest.mark.parametrize(
    ("written", "schema", "message", "hint"),
    [
        ("'true'", {"type": "boolean"}, "the text 'true', expected true or false", "without quotes"),
        ("1.10", {"type": "string"}, "the number 1.1, expected text", "put it in quotes: '1.10'"),
        ("true", {"type": "string"}, "true, expected text", "put it in quotes: 'true'"),
        ("2", {"type": "string", "pattern": "^[0-9]+d$"}, "the number 2, expected", None),
        ("x", {"enum": list("abcdefghijklmn")}, "'l', …", None),
        ("", {"type": "string"}, "empty, expected text", None),
        ("''", {"type": "string", "minLength": 1}, "empty text, expected some text", None),
        ("'5'", {"type": "integer"}, "the text '5', expected a whole number", "without quotes"),
        ("5.5", {"type": "integer"}, "the number 5.5, expected a whole number", None),
        ("[1]", {"type": "object"}, "a list of 1 entry, expected a mapping", None),
        ("{b: 1}", {"type": "array"}, "a mapping, expected a list", "each entry begins with a dash"),
        ("b", {"type": "array"}, "the text 'b', expected a list", "write a list: ['b']"),
        ("b", {"type": "object", "required": ["c"]}, "expected a mapping", "write a mapping: {c: 'b'}"),
        ("{}", {"minProperties": 1}, "an empty mapping, expected at least 1 entry", None),
        ("5m", {"type": "number"}, "the text '5m', expected a number", "the number alone, without a unit"),
        ("3", {"type": ["string", "array"], "x-example": "[1/1s]"}, "the number 3", "for example [1/1s]"),
        ("[]", {"type": "array", "minItems": 1}, "an empty list, expected at least 1 entry", None),
        ("[1, 1]", {"uniqueItems": True}, "a list of 2 entries, expected each entry only once", None),
        ("200", {"maximum": 100}, "the number 200, expected at most 100", None),
        ("b", {"const": "c"}, "the text 'b', expected 'c'", None),
        (
            "cvs",
            {"enum": ["csv", "json"]},
            "the text 'cvs', expected one of 'csv', 'json'",
            "did you mean 'csv'?",
        ),
        ("3", {"enum": ["csv", True]}, "the number 3, expected one of 'csv', true", None),
        ("B", {"pattern": "^b$"}, "the text 'B', expected text that matches ^b$", None),
        ("B", {"pattern": "^b$", "x-expected": "the letter b"}, "the text 'B', expected the letter b", None),
        ("INT", {"enum": ["integer"], "x-instead": {"int": "integer"}}, "'INT', expected", None),
        (
            "'int(4)'",
            {"pattern": "^q", "x-instead": {"int": "integer"}},
            "'int(4)', expected",
            "write 'integer'",
        ),
        ("integr", {"pattern": "^q", "x-instead": {"int": "integer"}}, "'integr'", "did you mean 'integer'?"),
        ("5", {"anyOf": [{"type": "string"}, {"type": "boolean"}]}, "expected text or true or false", "'5'"),
        ("1", False, "the number 1, expected nothing here", None),
    ],
)
def test_sentences(written: str, schema: Any, message: str, hint: str | None) -> None:
    found = one(f"a: {written}", schema)
    assert message in found.message
    assert (hint or "") in (found.hint or "")
    if hint is None and "enum" not in str(schema):
        assert found.hint is None


KINDS = {
    "type": "array",
    "items": {
        "oneOf": [
            {
                "type": "object",
                "required": ["type", "columns"],
                "additionalProperties": False,
                "properties": {"type": {"const": "unique"}, "columns": {"type": "array"}},
            },
            {
                "type": "object",
                "required": ["type", "min"],
                "additionalProperties": False,
                "properties": {"type": {"const": "row_count"}, "min": {"type": "integer"}},
            },
            {"type": "string"},
        ]
    },
}


def test_of_alternatives_the_one_that_was_meant_is_told() -> None:
    (found,) = check("- {type: row_count, min: many}", KINDS)
    assert found.message == "'min' in '[0]' is the text 'many', expected a whole number"
    assert found.place == Place("f", 1, 26)


def test_where_no_alternative_was_meant_all_are_named() -> None:
    (found,) = check("- {type: uniqe, columns: [a]}", KINDS)
    assert "is the text 'uniqe', expected one of 'unique', 'row_count'" in found.message
    assert found.hint == "did you mean 'unique'?"
    (found,) = check("- 5", KINDS)
    assert "is the number 5, expected a mapping or text" in found.message


def test_a_value_cut_by_a_comma_is_told_once() -> None:
    schema = {
        "additionalProperties": False,
        "properties": {"type": {"enum": ["decimal(10,2)"]}, "name": {"type": "string"}},
    }
    (found,) = check("{name: a, type: decimal(10,2)}", schema)
    assert found.hint == "inside { } a comma ends the value; put it in quotes: 'decimal(10,2)'"


def test_a_text_cut_by_a_comma_is_told_with_the_remedy() -> None:
    schema = {"additionalProperties": False, "properties": {"name": {"type": "string"}}}
    (found,) = check("{name: taken off, by the shop}", schema)
    assert found.message == "unknown property 'by the shop'"
    assert found.hint == "inside { } a comma ends the value; put the text in quotes"


def test_references_and_property_names() -> None:
    schema = {
        "$defs": {
            "c": {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
        },
        "additionalProperties": {"$ref": "#/$defs/c"},
        "propertyNames": {"pattern": "^[a-z]+$", "x-expected": "lower-case letters"},
    }
    found = check("a: {m: 1}\nB: {n: x}\n", schema)
    assert [p.message for p in found] == [
        "unknown property 'm' in 'a'",
        "the name 'B' is not allowed",
        "'n' in 'B' is the text 'x', expected a whole number",
    ]
    assert found[0].hint == "did you mean 'n'?" or found[0].hint == "known: n"
    assert (found[1].place, found[1].hint) == (Place("f", 2, 1), "expected lower-case letters")


def test_a_schema_may_not_fetch_or_hang() -> None:
    for reference in ("http://127.0.0.1:1/x.json", "file:///etc/passwd"):
        with pytest.raises(ValueError, match="outside this schema"):
            Schema({"$ref": reference})
    with pytest.raises(ValueError, match="regex"):
        Schema({"pattern": "(?=a)b"})
    assert check("a: " + "a" * 5000 + "b", {"properties": {"a": {"pattern": "^(a+)+$"}}})


def test_long_values_and_many_errors_stay_short() -> None:
    found = check(f"'{'k' * 900}': 1\ndescription: [{'x, ' * 2000}]\n", CLOSED)
    assert all(len(p.message) < 200 for p in found)
    many = "".join(f"k{n}: x\n" for n in range(5000))
    assert len(check(many, {"additionalProperties": {"type": "integer"}})) == 500
