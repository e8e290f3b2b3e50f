"""Endpoints that are added by a form, and descriptions."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.catalog.endpoint_form import NEEDED, WHOLE, add, describe, description_form, form_of
from tulle.catalog.part_fields import Typed
from tulle.catalog.service_design import read_design
from tulle.errors import Conflict, Invalid, NotFound
from tulle.serving.kinds import KINDS

TEXT = """\
service: all-of-it
endpoints:
- {name: row, type: lookup, data_set: rows, key: id}  # the first
"""
FILLED: dict[str, tuple[dict[str, str], dict[str, list[list[str]]], str]] = {
    "predict": ({"model": "returns"}, {}, "  model: returns\n"),
    "forecast": ({"model": "sales"}, {}, "  model: sales\n"),
    "lookup": (
        {"product": "shops", "data_set": "rows"},
        {"key": [["customer", "who"], ["day", ""]]},
        "  product: shops\n  data_set: rows\n  key: {who: customer, day: day}\n",
    ),
    "query": (
        {"sql": "SELECT * FROM rows WHERE id = $id"},
        {"parameters": [["id", "integer"], ["", ""]]},
        "  sql: SELECT * FROM rows WHERE id = $id\n  parameters: {id: {type: integer}}\n",
    ),
    "function": ({"file": "who.py", "function": ""}, {}, "  file: who.py\n"),
    "compose": (
        {"output": "$found"},
        {"input": [["id", ""]], "steps": [["found", "row", "id: $input.id"]]},
        "  input: {id: {}}\n  steps:\n    - name: found\n      call: row\n      with: {id: $input.id}\n  output: $found\n",
    ),
}


def typed(kind: str, **texts: str) -> Typed:
    return Typed({"name": "one-more", **FILLED[kind][0], **texts}, FILLED[kind][1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_kind_needs_makes_an_endpoint(kind: str) -> None:
    assert form_of(TEXT, kind).choices["endpoints"] == ["row"]
    made = add(TEXT, kind, typed(kind))
    assert made.problems == {}
    assert made.text == f"{TEXT}- name: one-more\n  type: {kind}\n{FILLED[kind][2]}"
    design = read_design(made.text, "x")
    assert [str(one) for one in design.problems] == []
    assert design.endpoints[-1].kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_needed_and_missing_is_told_by_field(kind: str) -> None:
    assert set(KINDS[kind].schema.get("required", ())) <= set(NEEDED[kind])
    found = add(TEXT, kind, Typed())
    assert found.problems == dict.fromkeys(("name", *NEEDED[kind]), "it is needed")


@pytest.mark.parametrize(
    ("kind", "texts", "lines", "field", "told"),
    [
        ("function", {"name": "row"}, {}, "name", "another endpoint has that name"),
        ("function", {"name": "Not So"}, {}, "name", "lower-case letters"),
        ("function", {"file": "../who.py"}, {}, "file", "functions/"),
        ("query", {}, {"parameters": [["", "integer"]]}, "parameters", "a line has no name"),
        ("query", {}, {"parameters": [["a", ""], ["a", ""]]}, "parameters", "'a' is given twice"),
        ("query", {}, {"parameters": [["a", "number"]]}, "parameters", "number"),
        ("compose", {}, {"steps": [["a", "", ""]]}, "steps", "a step calls no endpoint"),
        ("compose", {}, {"steps": [["a", "row", "id"]]}, "steps", "what a step sends"),
    ],
)
def test_what_is_wrong_is_told_by_field(
    kind: str, texts: dict[str, str], lines: dict[str, Any], field: str, told: str
) -> None:
    whole = typed(kind, **texts)
    found = add(TEXT, kind, Typed(whole.texts, {**whole.lines, **lines}))
    assert set(found.problems) == {field}
    assert told in found.problems[field]


def test_hostile_text_stays_text() -> None:
    made = add(TEXT, "function", typed("function", description="x: [}\n- a: &b *b # <b>"))
    assert read_design(made.text, "x").endpoints[-1].description == "x: [}\n- a: &b *b # <b>"


def test_what_cannot_be_added_to_is_told() -> None:
    with pytest.raises(NotFound, match="no kind of endpoint 'predikt'"):
        form_of(TEXT, "predikt")
    with pytest.raises(NotFound):
        add(TEXT, "predikt", Typed())
    for text in ("service: x\n", "service: x\nendpoints: []\n", "service: x\nendpoints: 7\n"):
        with pytest.raises(Invalid, match="'endpoints' is no list with an endpoint"):
            add(text, "function", typed("function"))


def test_descriptions_are_changed_where_they_stand() -> None:
    form = description_form(TEXT, WHOLE)
    said = describe(TEXT, WHOLE, Typed({"description": "All: of it"}), form.digest).text
    assert said == TEXT.replace("all-of-it\n", "all-of-it\ndescription: 'All: of it'\n")
    form = description_form(said, WHOLE)
    assert form.typed.texts["description"] == "All: of it"
    assert describe(said, WHOLE, Typed({"description": " "}), form.digest).text == TEXT
    one = describe(TEXT, 0, Typed({"description": "A row"}), description_form(TEXT, 0).digest).text
    assert read_design(one, "x").endpoints[0].description == "A row"
    with pytest.raises(Conflict):
        describe(one, 0, Typed({"description": "B"}), description_form(TEXT, 0).digest)
    with pytest.raises(NotFound):
        description_form(TEXT, 7)
