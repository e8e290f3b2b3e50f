"""The form of a test query, and what is filled in back in the text."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.catalog.part_fields import Typed
from tulle.catalog.saved_query_form import NEW, add, change, form_of, take_out
from tulle.errors import Conflict, Invalid, NotFound
from tulle.serving.kinds import KINDS
from tulle.serving.service import load_service

TEXT = """\
service: all-of-it  # ours
endpoints:
  - name: chance
    type: predict
    model: returns
    test_queries:
      - {name: young, features: {age: 7}, expect: {prediction: "no"}}  # a child
      - name: old
        features: {age: 70}
  - {name: row, type: lookup, data_set: rows, key: id}
"""


def put(number: int, digest: str = "", of: int = 0, **texts: str) -> Any:
    return change(TEXT, of, number, Typed(texts), digest)


def test_a_query_is_fields_and_the_fields_are_the_query() -> None:
    form = form_of(TEXT, 0, 0)
    assert form.title == "Test query of chance"
    assert form.typed.texts == {
        "name": "young",
        "sent": '{\n  "age": 7\n}',
        "expect": '{\n  "prediction": "no"\n}',
        "tolerance": "",
        "endpoint": "chance",
    }
    assert put(0, form.digest, **form.typed.texts).text == TEXT  # what is not changed stays as it is written
    made = put(
        0, form.digest, **{**form.typed.texts, "sent": '{"age": 8}', "tolerance": "0.01", "expect": ""}
    )
    assert made.text == TEXT.replace(
        '{name: young, features: {age: 7}, expect: {prediction: "no"}}',
        "{name: young, features: {age: 8}, tolerance: 0.01}",
    )


def test_one_more_is_put_behind_the_others() -> None:
    made = put(NEW, name="none", sent="{}", expect='{"error": "NoMatch"}')
    assert made.text.index("- name: old") < made.text.index("name: none") < made.text.index("{name: row")
    first = put(NEW, of=1, name="one", sent='{"id": 1}').text
    (query,) = load_service(first).endpoints[1].test_queries
    assert (query.name, query.body) == ("one", {"data": {"id": 1}})


@pytest.mark.parametrize(
    ("field", "told", "texts"),
    [
        ("name", "it is needed", {"name": " ", "sent": "{}"}),
        ("sent", "this is no JSON: Expecting property name", {"name": "a", "sent": "{"}),
        ("sent", "expected a mapping", {"name": "a", "sent": "[1]"}),
        ("sent", "NaN is no JSON", {"name": "a", "sent": '{"a": NaN}'}),
        ("sent", "this is too deep", {"name": "a", "sent": "[" * 50_000}),
        ("sent", "at most 100,000", {"name": "a", "sent": " " * 5 + "1" * 100_001}),
        ("expect", "expected a mapping", {"name": "a", "sent": "{}", "expect": "7"}),
        ("tolerance", "expected a number", {"name": "a", "sent": "{}", "tolerance": "little"}),
        ("tolerance", "0", {"name": "a", "sent": "{}", "tolerance": "-1"}),
    ],
)
def test_what_is_wrong_is_told_by_field(field: str, told: str, texts: dict[str, str]) -> None:
    found = put(NEW, **texts)
    assert set(found.problems) == {field}
    assert told in found.problems[field]
    assert found.text == ""


def test_what_was_changed_meanwhile_is_not_written_over() -> None:
    digest = form_of(TEXT, 0, 1).digest
    with pytest.raises(Conflict, match="changed in the text meanwhile"):
        put(0, digest, name="a", sent="{}")
    with pytest.raises(NotFound, match="no such test query"):
        put(7, digest, name="a", sent="{}")
    with pytest.raises(NotFound):
        form_of(TEXT, -1, 0)
    with pytest.raises(Invalid, match="no list"):
        form_of(TEXT.partition("    test_queries")[0] + "    test_queries: 7\n", 0, 0)


def test_one_is_taken_out_and_the_list_with_the_last_one() -> None:
    left = take_out(TEXT, 0, 0, form_of(TEXT, 0, 0).digest)
    assert left == "".join(line for line in TEXT.splitlines(keepends=True) if "young" not in line)
    assert "test_queries" not in take_out(left, 0, 0, form_of(left, 0, 0).digest)


def test_what_is_made_from_data_is_added_under_names_of_its_own() -> None:
    made = [
        {"name": "old", "features": {"age": 1}},
        {"name": "rows 2", "features": {"age": 2}, "expect": {"a": 1}},
    ]
    queries = load_service(add(TEXT, 0, made).text).endpoints[0].test_queries
    assert [one.name for one in queries] == ["young", "old", "old (2)", "rows 2"]
    with pytest.raises(Invalid, match="these are no test queries"):
        add(TEXT, 0, [{"name": "x", "data": {}}])
    with pytest.raises(Invalid, match="at most 1,000"):
        add(TEXT, 0, made * 500)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_form(kind: str) -> None:
    text = f"service: all-of-it\nendpoints:\n- name: one\n  type: {kind}\n"
    form = form_of(text, 0, NEW)
    made = change(
        text,
        0,
        NEW,
        Typed({**form.typed.texts, "name": "a", "sent": '[{"a": 1}]' if kind == "forecast" else "{}"}),
        "",
    )
    assert made.problems == {}
    assert form_of(made.text, 0, 0).typed.texts["name"] == "a"
