"""Requests taken apart, whatever they are: what is not understood loses its content and stops nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tulle.serving.log_rows import (
    MASK,
    SCHEMA,
    Shown,
    kept_answer,
    outcome_rule,
    query_rows,
    shown_outcome,
    table_of,
)
from tulle.serving.log_segment import (
    QUERIES,
    Record,
    SegmentHeader,
    SegmentRoute,
    SegmentWriter,
    read_segment,
)

ROUTES = [
    SegmentRoute("p", "predict", "predict", ["a"]),
    SegmentRoute("p", "predict", "predict-multi", ["a"]),
    SegmentRoute("f", "function", "run", []),
    SegmentRoute("q", "query", "rows", []),
    SegmentRoute("p", "predict", "infer", ["a"]),
    SegmentRoute("l", "lookup", "lookup", []),
]
HEADER = SegmentHeader("s", "v1", "v1", ROUTES)


def rows_of(
    route: int, body: Any, answer: Any, *, status: int = 200, rows: Any = None, shown: Shown | None = None
) -> list[dict[str, Any]]:
    content = body if isinstance(body, bytes | list) else json.dumps(body).encode()
    given = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    record = Record(route, 1_000_000, 7000, "r", status, b"till", b"a-shadow:80", content, given, rows)
    found = list(query_rows(HEADER, [record], dict.fromkeys("pfql", shown or Shown())))
    assert table_of(found, SCHEMA).num_rows == len(found)
    return found


@pytest.mark.parametrize("route", range(len(ROUTES)))
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"7", b"[1]", b'"x"', b"\xff", b"[" * 5000),
        *({"items": "abc"}, {"items": 7}, {"items": []}, {"items": [1, None, {}]}, {"features": "x"}),
        *({"features": {"a": float("inf")}}, {"": {"": {}}}, [("a", "1")]),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_nothing_stops_it(route: int, body: Any, status: int) -> None:
    for answer in (
        b"",
        b"<html>",
        {"result": 1},
        {"results": [1, {"error": 5}]},
        {"results": 7},
        {"timing": None},
    ):
        found = rows_of(route, body, answer, status=status, rows=[object()] if route == 0 else None)
        assert found
        assert {(row["request_id"], row["status"], row["shadow"]) for row in found} == {("r", status, True)}


def test_each_kind_is_taken_apart() -> None:
    (one,) = rows_of(2, {"x": 1}, {"response": {"y": [2]}, "timing": {"call": 3}})
    assert (one["sent"], one["result"], one["steps"]) == ('{"x":1}', '{"y":[2]}', '{"call":3}')
    (one,) = rows_of(3, {"x": 1}, {"columns": [], "rows": [[1]], "apiContext": {}})
    assert one["result"] == '{"columns":[],"rows":[[1]]}'
    (one,) = rows_of(4, {"inputs": []}, {"outputs": [{"name": "predict", "data": [1]}]})
    assert one["result"] == '{"prediction":1}'
    first, second = rows_of(
        1,
        {"items": [{"features": {"a": 1}}, {"date": "2020-01-01"}]},
        {
            "results": [
                {"prediction": 1},
                {"ignored": True, "error": {"errorType": "NoMatch", "message": "ann"}},
            ]
        },
        rows=([0], [[1]]),
    )
    assert (first["features"], first.get("error")) == ('{"a":1}', None)
    assert (second["sent"], second["error"], second["result"]) == (
        '{"date":"2020-01-01"}',
        "NoMatch",
        '{"ignored":true}',
    )


TIMING = {"preProcessing": 1, "enrich": 0, "predictionPredict": 5}


@pytest.mark.parametrize(
    "body",
    [
        {"features": {"a": 1, "b": 'x\u00e9\n"', "c": None, "d": [1, {"a": 2}]}},
        {"features": {"a": 1.5, "unknown": 3}, "explanations": None},
        b'{ "features" : { "a" : 1, "a": 2, "\\u0062": true } }',
        {"features": {}},
        {"features": 7},
        b'{"features": {"a": "\xff"}}',
        [("a", "1")],
        b"",
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"prediction": "no", "probas": {"no": 0.5, "error": 0.5}}, "timing": TIMING},
        {"result": {"prediction": 1, "ignored": False}, "timing": TIMING, "apiContext": {"x": 1}},
        {"result": {"prediction": 1, "lookups": {"status": "x"}}, "timing": TIMING},
        {"result": {"prediction": 1, "customKeys": {"a": 7}}, "timing": {}},
        {"result": {"prediction": 1}, "timing": {"call": 1.5, "said": "ann"}},
        {"result": [1], "timing": None},
        {"response": 1},
        b"<html>",
    ],
)
@pytest.mark.parametrize("known", [None, frozenset({"a", "b"})])
def test_the_quick_way_keeps_what_the_other_one_keeps(
    body: Any, answer: Any, known: frozenset[str] | None
) -> None:
    quick = rows_of(0, body, answer, rows=[3], shown=Shown(known=known))
    nothing_here = frozenset({"a name that is nowhere"})
    other = rows_of(0, body, answer, rows=[3], shown=Shown(known=known, left_out=nothing_here))
    for columns in (*quick, *other):
        for name in ("steps", "sent", "features", "result", "lookups"):
            columns[name] = None if columns[name] is None else json.loads(columns[name])
    assert quick == other


def test_values_are_masked_at_any_depth() -> None:
    rule = Shown(
        masked=frozenset({"name"}),
        left_out=frozenset({"note"}),
        declared=frozenset({"city"}),
        texts_masked=True,
    )
    value = {
        "name": "ann",
        "note": "x",
        "city": "rome",
        "age": 7,
        "free": "ann",
        "none": None,
        "deep": {"age": 1},
    }
    assert rule.of([value]) == [
        {"name": MASK, "city": "rome", "age": 7, "free": MASK, "none": None, "deep": MASK}
    ]
    open_rule = Shown(masked=frozenset({"name"}))
    assert open_rule.of({"deep": [{"name": "ann", "x": 1}]}) == {"deep": [{"name": MASK, "x": 1}]}
    assert Shown(closed=True).of({"a": 1}) is None
    (row,) = rows_of(0, {"features": "ann"}, {"errorType": "InvalidFeatures"}, status=400)
    assert (row["sent"], row["error"]) == (None, "InvalidFeatures")


def test_what_another_version_wrote_is_left_out(tmp_path: Any) -> None:
    writer = SegmentWriter(tmp_path, "1", HEADER)
    writer.add(QUERIES, [["another", "form"]])
    writer.add(99, "a kind that is not known")
    writer.add(QUERIES, [msgspec.to_builtins(Record(0, 1, 1, "r", 200, None, None, None, None, None))])
    segment = read_segment(writer.close())
    assert [record.request_id for record in segment.records] == ["r"]


def test_what_was_sent_does_not_say_how_many_rows_there_are() -> None:
    rule = Shown(masked=frozenset({"name"}), known=frozenset({"name", "a", "b"}))
    routes = [SegmentRoute("p", "predict", "predict-multi", ["a", "b", "name"])]
    body = json.dumps({"items": [{"features": {"a": 1}}], "features": {"a": 2}}).encode()
    answer = json.dumps({"results": [{"prediction": 1}]}).encode()
    record = Record(0, 1, 1, "r", 200, None, None, body, answer, [[0], [[1, 2, "ann"]]])
    (row,) = query_rows(SegmentHeader("s", "v1", "v1", routes), [record], {"p": rule})
    assert json.loads(row["features"]) == {"a": 1, "b": 2, "name": MASK}
    assert "ann" not in str(row)


def test_a_request_for_many_that_is_refused_is_one_row() -> None:
    body = {"items": [1] * 100_000}
    (row,) = rows_of(1, body, {"errorType": "UnknownGeneration"}, status=404)
    assert (row["error"], row["sent"]) == ("UnknownGeneration", None)
    (row,) = rows_of(1, {"items": []}, {"results": []})
    assert row["item"] == 0


def test_what_users_code_says_is_no_way_around() -> None:
    answer = {
        "result": {"prediction": 1, "customKeys": {"who": "ann", "score": 2, "name": "ann", "near": ["ann"]}},
        "timing": {"total": 3, "who": "ann"},
    }
    (row,) = rows_of(0, {"features": {}}, answer, shown=Shown(masked=frozenset({"name"})))
    assert json.loads(row["result"])["customKeys"] == {
        "who": MASK,
        "score": 2,
        "name": MASK,
        "near": MASK,
    }
    assert row["steps"] == '{"total":3}'
    (row,) = rows_of(0, {"features": {}}, answer)
    assert json.loads(row["result"]) == answer["result"]
    (row,) = rows_of(2, {}, {"errorType": "no customer ann"}, status=422)
    assert row["error"] == "Error"


def test_tensors_are_rows_as_other_predictions_are() -> None:
    routes = [SegmentRoute("p", "predict", "infer", ["a", "b"], ["no", "yes"])]
    header = SegmentHeader("s", "v1", "v1", routes)
    rule = Shown(masked=frozenset({"who"}), known=frozenset({"a", "b", "who"}))
    answer = {
        "outputs": [
            {"name": "predict", "data": ["yes", "no"]},
            {"name": "predict_proba", "data": [0.1, 0.9, 0.8, 0.2]},
        ]
    }

    def rows(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        content = json.dumps({"inputs": inputs}).encode()
        given = json.dumps(answer).encode()
        record = Record(0, 1, 1, "r", 200, None, None, content, given, [[0, 1], [[1, 2], [3, 4]]])
        return list(query_rows(header, [record], {"p": rule}))

    named = rows(
        [
            {"name": "who", "shape": [2], "datatype": "BYTES", "data": ["ann", "bob"]},
            {"name": "a", "shape": [2, 1], "datatype": "INT64", "data": [[1], [3]]},
        ]
    )
    assert [json.loads(row["sent"]) for row in named] == [{"who": MASK, "a": 1}, {"who": MASK, "a": 3}]
    assert [json.loads(row["features"]) for row in named] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert [json.loads(row["result"]) for row in named] == [
        {"prediction": "yes", "probas": {"no": 0.1, "yes": 0.9}},
        {"prediction": "no", "probas": {"no": 0.8, "yes": 0.2}},
    ]
    whole = rows([{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}])
    assert [json.loads(row["sent"]) for row in whole] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_outcomes_name_nobody_where_people_are_named() -> None:
    people = outcome_rule(
        {
            "p": Shown(
                masked=frozenset({"name"}), left_out=frozenset({"note"}), declared=frozenset({"city"})
            ),
            "f": Shown(closed=True),
        }
    )

    def kept(outcome: Any, rule: Shown = people) -> Any:
        return json.loads(shown_outcome(json.dumps(outcome).encode(), rule, {"churned"}))

    told = {"name": "ann", "note": "x", "city": "rome", "other": "ann", "sold": 3}
    assert kept(told) == {"name": MASK, "city": "rome", "other": MASK, "sold": 3}
    assert [kept(one) for one in (1, True, "churned", "ann", ["ann", 2])] == [
        1,
        True,
        "churned",
        MASK,
        [MASK, 2],
    ]
    assert kept(1, outcome_rule({"p": Shown(closed=True)})) == MASK
    assert kept(1, outcome_rule({})) == MASK
    assert kept(told, outcome_rule({"p": Shown(known=frozenset())})) == told


def test_the_rows_of_several_data_sets_are_masked_in_the_result_and_not_told_twice() -> None:
    told = [
        {"dataSet": "people", "status": "PRESENT"},
        {"dataSet": "orders", "status": "PRESENT", "found": 1, "rows": [{"street": "x", "amount": 2}]},
    ]
    answer = {"results": [{"data": {"name": "ann", "amount": 2}, "lookups": told}], "timing": {}}
    rule = Shown(masked=frozenset({"name", "street"}))
    result, _ = kept_answer("lookup", answer, rule)
    assert result == {
        "data": {"name": MASK, "amount": 2},
        "lookups": [told[0], {**told[1], "rows": [{"street": MASK, "amount": 2}]}],
    }
    (row,) = rows_of(5, {"data": {"id": 1}}, answer, shown=rule)
    assert json.loads(row["result"]) == result
    assert json.loads(row["lookups"]) == [told[0], {"dataSet": "orders", "status": "PRESENT"}]
    odd = {"response": {"data": {}, "lookups": [1, {"rows": 2}]}}  # a function's own words
    assert kept_answer("function", odd, Shown())[0] == odd["response"]


@pytest.mark.parametrize("shown", [Shown(), Shown(left_out=frozenset({"b"}))])
def test_features_that_an_answer_tells_are_kept_once(shown: Shown) -> None:
    answer = {"result": {"prediction": 1, "features": {"a": 3, "b": "secret"}}, "timing": TIMING}
    (row,) = rows_of(0, {"features": {"a": 3}}, answer, rows=[3], shown=shown)
    assert (json.loads(row["result"]), json.loads(row["features"])) == ({"prediction": 1}, {"a": 3})
    (item,) = rows_of(1, {"items": [{"features": {"a": 3}}]}, {"results": [answer["result"]]}, shown=shown)
    assert json.loads(item["result"]) == {"prediction": 1}
    assert kept_answer("predict", answer, shown)[0] == {"prediction": 1}
