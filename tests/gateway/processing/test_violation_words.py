"""Violations of schemas in words: the place and what was expected, and nothing of the value."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from tulle.gateway.processing.violation_words import violation


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"required": ["name"]}, {}, "'name' is missing"),
        ({"properties": {"a": {"items": {"type": ["integer", "null"]}}}}, {"a": [1, "hush"]}, None),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"hush": 1},
            "it has a member that the document does not have",
        ),
        ({"enum": ["a", 1, None]}, "hush", "expected one of 'a', 1, null"),
        ({"enum": list(range(9))}, "hush", "expected one of 0, 1, 2, 3, 4, 5, 6, 7 …"),
        ({"const": "x" * 100}, "hush", f"expected '{'x' * 80}…'"),
        ({"format": "date"}, "hush", "expected the format 'date'"),
        ({"pattern": "^[a-c]+$"}, "hush", "expected text of the form '^[a-c]+$'"),
        ({"exclusiveMinimum": 5}, 1, "expected more than 5"),
        ({"multipleOf": 3}, 4, "expected a multiple of 3"),
        ({"maxLength": 3}, "hush", "expected at most 3 characters"),
        ({"minItems": 2}, ["hush"], "expected at least 2 elements"),
        (
            {"oneOf": [{"type": "number"}]},
            "hush",
            "it is none, or more than one, of the forms that the document has",
        ),
        ({"not": {}}, "hush", "it is not what 'not' of its schema asks for"),
    ],
)
def test_what_was_expected_is_told(schema: Any, value: Any, said: str | None) -> None:
    check = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    (told,) = [violation(error) for error in check.iter_errors(value)]
    assert told == (said or "a.1: expected a whole number or null")
    assert "hush" not in told
