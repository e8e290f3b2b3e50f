"""What steps send to endpoints of each kind, and see of their answers, here and elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tulle.serving import outer_call
from tulle.serving.inner_call import main_part, request_of
from tulle.serving.kinds import KINDS
from tulle.serving.outside import Door
from tulle.serving.request import RequestError

ANSWERS: dict[str, tuple[dict[str, Any], Any]] = {
    "predict": ({"result": {"prediction": 1}, "timing": {}}, {"prediction": 1}),
    "forecast": ({"results": [{"forecast": 1.5}]}, [{"forecast": 1.5}]),
    "lookup": ({"results": [{"data": {"a": 1}}]}, {"a": 1}),
    "query": ({"columns": [{"name": "n", "type": "integer"}], "rows": [[1], [2]]}, [{"n": 1}, {"n": 2}]),
    "function": ({"response": [1]}, [1]),
    "compose": ({"response": None}, None),
}


@pytest.mark.parametrize("kind", list(KINDS))  # one that is new needs an answer here
def test_steps_see_the_main_part_of_an_answer(kind: str) -> None:
    answer, part = ANSWERS[kind]
    assert main_part(kind, json.dumps(answer).encode()) == part
    with pytest.raises(RequestError, match="not in the form"):
        main_part(kind, b"[]")


def test_a_lookup_of_several_rows_is_seen_whole() -> None:
    answer = {"results": [{"data": {"a": 1}, "found": 2, "rows": [{"a": 1}, {"a": 2}], "status": "PRESENT"}]}
    assert main_part("lookup", json.dumps(answer).encode()) == answer["results"][0]


def test_what_is_sent_is_wrapped_as_the_kind_wants_it() -> None:
    assert request_of("predict", {"a": 1}) == {"features": {"a": 1}}
    assert request_of("lookup", {"a": 1}) == {"data": {"a": 1}}
    assert request_of("function", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("kind", list(KINDS))
def test_only_what_does_nothing_but_answer_is_asked_again(kind: str) -> None:
    call = outer_call.ServiceCall("other/it", kind, Door(None))
    failed, busy = RequestError(500, "EvaluationFailed", ""), RequestError(503, "QueueFull", "")
    assert call.may_retry(failed) is (kind not in {"function", "compose"})
    assert call.may_retry(busy)
    assert not call.may_retry(RequestError(404, "NoMatch", ""))


def test_a_lookup_in_several_data_sets_is_its_row_or_all_where_one_gives_several() -> None:
    told = {"dataSet": "a", "status": "PRESENT"}
    one = {"data": {"a": 1}, "lookups": [told]}
    assert main_part("lookup", json.dumps({"results": [one]}).encode()) == {"a": 1}
    all_rows = {"data": {"a": 1}, "lookups": [told, {**told, "found": 1, "rows": [{"a": 1}]}]}
    assert main_part("lookup", json.dumps({"results": [all_rows]}).encode()) == all_rows
