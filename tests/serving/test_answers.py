"""Answers compared: what counts as the same, where two differ, and what an expectation demands."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.serving.answers import (
    MOST_DIFFERENCES,
    Comparison,
    Difference,
    Question,
    compared,
    differences,
    expectation,
    judged,
    unlike,
)

ONE = Question("it", "one", {"features": {}})


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        ({"a": 1}, {"a": 1.0000001}, []),
        ({"a": 1}, {"a": 1.1}, [Difference("a", 1, 1.1)]),
        ({"a": 1}, {"a": True}, [Difference("a", 1, True)]),
        ({"a": "1"}, {"a": 1}, [Difference("a", "1", 1)]),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, [Difference("a.b.1.c", 2, 3)]),
        ({"a": [1]}, {"a": [1, 2]}, [Difference("a", [1], [1, 2])]),
        ({"a": 1}, {"b": 1}, [Difference("a", 1, None, "right"), Difference("b", None, 1, "left")]),
        (None, None, []),
    ],
)
def test_where_two_values_differ(left: Any, right: Any, found: list[Difference]) -> None:
    assert list(differences(left, right, 1e-6)) == found


def test_what_an_answer_tells_of_itself_is_no_difference() -> None:
    left = {"result": {"prediction": 1}, "timing": {"a": 1}, "apiContext": {"serviceGeneration": "v1"}}
    right = {"result": {"prediction": 1}, "timing": {"a": 9}, "apiContext": {"serviceGeneration": "v2"}}
    assert compared(ONE, (200, left, 1.0), (200, right, 3.0), 1e-6).is_equal
    failed = {"errorType": "NoMatch", "message": "m", "requestId": "1"}
    other = compared(ONE, (200, left, 1.0), (404, failed, 3.0), 1e-6)
    assert [one.path for one in other.differences] == ["status", "result", "errorType", "message"]
    comparison = Comparison("s", "v1", "v2", (other, compared(ONE, (200, left, 2.0), (200, left, 4.0), 0)))
    assert (comparison.equal, comparison.medians) == (1, (1.5, 3.5))
    assert Comparison("s", "v1", "v2", ()).medians == (0.0, 0.0)


def test_only_so_many_differences_are_told() -> None:
    left, right = {str(n): n for n in range(100)}, {str(n): n + 1 for n in range(100)}
    assert len(compared(ONE, (200, left, 1), (200, right, 1), 0).differences) == MOST_DIFFERENCES


def test_an_expectation_is_what_was_answered_and_holds_for_it() -> None:
    answers: list[tuple[int, dict[str, Any], Any]] = [
        (200, {"result": {"prediction": 1, "probas": {"0": 0.1}}}, {"prediction": 1, "probas": {"0": 0.1}}),
        (200, {"results": [{"data": {"a": None}}]}, {"a": None}),
        (200, {"columns": [], "rows": [["1"]]}, {"rows": [["1"]]}),
        (200, {"response": {"x": [1.5]}}, {"x": [1.5]}),
        (404, {"errorType": "NoMatch"}, {"error": "NoMatch"}),
        (200, {"response": 3}, None),
    ]
    for status, answer, expected in answers:
        found = expectation(status, answer)
        assert found == expected
        assert judged(found, 1e-6, status, answer) == ""
    assert unlike({"x": [1.5, {"y": 1}]}, {"x": [1.5, {"y": 2}], "z": 0}, 1e-6) == "x.1.y is 2, expected 1"
    assert "expected the error NoMatch" in judged({"error": "NoMatch"}, 0, 200, {"result": {}})


@pytest.mark.parametrize("answer", [[1], "text", 5, None, {"other": 1}, {"results": []}, {"results": 3}])
def test_what_a_function_answers_in_its_own_form_is_compared_as_it_is(answer: Any) -> None:
    assert judged(None, 0, 200, answer) == ""
    assert judged({"a": 1}, 0, 200, answer) != ""
    assert judged({"error": "NoMatch"}, 0, 418, answer) == "expected the error NoMatch, got "
    assert judged(None, 0, 418, answer) == "418 : "
    assert expectation(418, answer) == {"error": ""}
    kept = expectation(200, answer)
    assert kept is None or judged(kept, 0, 200, answer) == ""


def test_features_that_an_answer_tells_are_no_part_of_a_comparison() -> None:
    left = {"result": {"prediction": 1, "features": {"income": 3}}}
    right = {"result": {"prediction": 2, "features": {"income": 4}}}
    found = compared(ONE, (200, left, 1.0), (200, right, 1.0), 1e-6)
    assert found.differences == (Difference("result.prediction", 1, 2),)
