"""The form of an annotation of an API, and what is filled in back in the text of the overlay."""

from __future__ import annotations

import pytest

from tulle.catalog.annotation_form import NEW, change, form_of, read_annotations, take_out, targets_of
from tulle.catalog.part_fields import Typed
from tulle.errors import Conflict, Invalid, NotFound

TEXT = """\
overlay: 1.0.0
info: {title: Ours, version: "1"}
actions:
  # the whole
  - target: $.info
    update: {title: Totals, x-owner: {team: sales}}
  - {target: "$.paths['/total/lookup']", remove: true}
"""


def test_an_annotation_is_fields_and_the_fields_are_the_annotation() -> None:
    form = form_of(TEXT, 0, ("$.info",))
    assert form.typed.texts == {
        "title": "Totals",
        "summary": "",
        "description": "",
        "tags": "",
        "target": "$.info",
        "what": "",
    }
    assert form.typed.lines == {"more": [("x-owner", "{team: sales}")]}
    assert change(TEXT, 0, form.typed, form.digest, "x").text == TEXT
    typed = Typed({**form.typed.texts, "description": "What: is", "tags": "a, b"}, {"more": []})
    made = change(TEXT, 0, typed, form.digest, "x").text
    (first, second) = read_annotations(made, "x").annotations
    assert dict(first.said) == {"title": "Totals", "description": "What: is", "tags": "[a, b]"}
    assert "# the whole" in made
    assert second.removes
    assert form_of(made, 0).typed.texts["tags"] == "a, b"


def test_the_first_one_begins_the_text_and_the_last_one_takes_it_away() -> None:
    made = change("", NEW, Typed({"target": "$.info", "summary": "Sums"}), "", "totals").text
    assert made.startswith("overlay: 1.0.0\ninfo: {title: Annotations of totals, version: 1.0.0}\nactions:\n")
    (only,) = read_annotations(made, "x").annotations
    assert (only.target, only.said) == ("$.info", (("summary", "Sums"),))
    assert take_out(made, 0, form_of(made, 0).digest) == ""
    both = change(made, NEW, Typed({"target": "$.paths", "what": "remove"}), "", "totals").text
    assert [one.target for one in read_annotations(both, "x").annotations] == ["$.info", "$.paths"]
    assert take_out(both, 1, form_of(both, 1).digest) == made


@pytest.mark.parametrize(
    ("texts", "more", "field", "told"),
    [
        ({"summary": "a"}, [], "target", "it is needed"),
        ({"target": "paths[", "summary": "a"}, [], "target", "no JSONPath"),
        ({"target": "$.info"}, [], "description", "it says nothing"),
        ({"target": "$.info"}, [["", "1"]], "more", "a value has no name"),
        ({"target": "$.info", "title": "a"}, [["title", "1"]], "more", "'title' is given twice"),
    ],
)
def test_what_is_wrong_is_told_by_field(
    texts: dict[str, str], more: list[list[str]], field: str, told: str
) -> None:
    found = change(TEXT, NEW, Typed(texts, {"more": more}), "", "x")
    assert set(found.problems) == {field}
    assert told in found.problems[field]


def test_what_was_changed_meanwhile_is_not_written_over() -> None:
    with pytest.raises(Conflict):
        change(TEXT, 0, Typed({"target": "$"}), form_of(TEXT, 1).digest, "x")
    with pytest.raises(NotFound):
        form_of(TEXT, 2)
    with pytest.raises(Invalid, match="no list of actions"):
        form_of("overlay: 1.0.0\n", 0)
    with pytest.raises(Invalid, match="no mapping"):
        form_of(TEXT.replace("{title: Totals, x-owner: {team: sales}}", "[1]"), 0)


def test_what_is_wrong_with_a_text_is_told() -> None:
    assert read_annotations("", "x").annotations == ()
    (problem,) = read_annotations("overlay: [", "services/x.openapi.yaml").problems
    assert problem.place is not None
    assert problem.place.file == "services/x.openapi.yaml"


def test_targets_are_what_a_document_has() -> None:
    document = {
        "paths": {"/a/run": {"post": {}, "summary": "x"}},
        "components": {"schemas": {"A": {}}},
    }
    assert targets_of(document) == ("$.info", "$.paths['/a/run'].post", "$.components.schemas['A']")
