"""Answers by the examples of OpenAPI documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tulle.spec.openapi_examples import MADE, MOST_ANSWERS, example_answers, made_of

LOOP = {
    "components": {
        "schemas": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}}
    }
}


def answers(responses: Any, **document: Any) -> list[tuple[int, str, str, str]]:
    whole = {"paths": {"/a": {"get": {"responses": responses}}, "x-note": {}}, **document}
    return [(one.status, one.name, one.media, one.body) for one in example_answers(whole)]


def test_written_examples_come_before_what_a_schema_stands_for_and_success_before_errors() -> None:
    found = answers(
        {
            "404": {"content": {"application/json": {"example": {"error": "no"}}}},
            "200": {
                "content": {
                    "text/html": {"example": "<p>"},
                    "application/json": {
                        "schema": {"type": "object"},
                        "examples": {"full": {"$ref": "#/components/examples/full"}, "none": {"value": []}},
                    },
                }
            },
            "5XX": {"content": {"text/plain": {"example": "sorry"}}},
        },
        components={"examples": {"full": {"value": [{"id": 1}]}}},
    )
    assert found == [
        (200, "full", "application/json", '[{"id":1}]'),
        (200, "none", "application/json", "[]"),
        (404, "example", "application/json", '{"error":"no"}'),
        (500, "example", "text/plain", "sorry"),
    ]


def test_an_operation_always_has_an_answer() -> None:
    assert answers({}) == [(200, MADE, "", "")]
    assert answers({"204": {"description": "done"}}) == [(204, MADE, "", "")]
    assert answers({"default": {"content": {"*/*": {}}}}) == [(200, MADE, "application/json", "null")]
    assert answers(None) == [(200, MADE, "", "")]
    many = {str(200 + number): {} for number in range(40)}
    assert len(answers(many)) == MOST_ANSWERS


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": ["null", "string"], "format": "date"}, "2026-01-31"),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "array", "items": {"type": "boolean"}}, [True]),
        ({"oneOf": [{"const": 7}, {"type": "string"}]}, 7),
        (
            {"allOf": [{"properties": {"a": {"default": 1}}}], "properties": {"b": {"example": 2}}},
            {"a": 1, "b": 2},
        ),
        ({"type": "string", "examples": ["x"]}, "x"),
        ({"$ref": "#/nowhere"}, None),
        ("no schema", None),
    ],
)
def test_a_schema_stands_for_a_value(schema: Any, value: Any) -> None:
    assert made_of({}, schema) == value


def test_a_schema_that_refers_to_itself_is_cut() -> None:
    made = made_of(LOOP, {"$ref": "#/components/schemas/Node"})
    assert json.dumps(made).count("next") == 7


def test_schemas_that_stand_for_endlessly_much_stand_for_a_part_of_it() -> None:
    node = {"$ref": "#/components/schemas/Node"}
    wide = {"type": "object", "properties": {f"a{n}": node for n in range(40)}}
    deep = {"allOf": [node] * 100_000}
    for schema in (wide, deep, {"type": "object", "properties": {"a": {"allOf": [wide, deep]}}}):
        made = made_of({"components": {"schemas": {"Node": schema}}}, node)
        assert len(json.dumps(made)) < 100_000


def test_answers_beyond_those_that_are_taken_are_not_looked_at() -> None:
    examples = {f"e{n}": {"value": n} for n in range(100_000)}
    found = answers({"200": {"content": {"application/json": {"examples": examples}}}})
    assert [name for _, name, _, _ in found] == [f"e{n}" for n in range(MOST_ANSWERS)]
