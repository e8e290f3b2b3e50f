"""Predictions from features, from a key, from both; and what is refused, with which words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.conftest import FEATURES, PREDICTOR, Mesh, customers

from tulle.errors import Invalid
from tulle.serving.endpoint import Headed
from tulle.serving.loaded import Loaded, load
from tulle.serving.request import RequestError


def ask(service: Loaded, body: Any, action: str = "predict", endpoint: str = "high-value") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    action_of = service.endpoints[endpoint].actions[action]
    assert not isinstance(action_of, Headed)
    given = action_of(raw, "r-1")
    if not isinstance(given, bytes):  # many take a while

        async def waited() -> bytes:
            return (await given).body

        given = asyncio.run(waited())
    answer = json.loads(given)
    assert isinstance(answer, dict)
    return answer


def refused(service: Loaded, body: Any, action: str = "predict") -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(service, body, action)
    return caught.value


def row_of(number: int) -> Mapping[str, Any]:
    row = customers().slice(number, 1).to_pylist()[0]
    return {"recency": row["recency"], "frequency": row["frequency"], "spend": float(row["spend"])}


def expected(model: tuple[Any, Any], values: Mapping[str, Any]) -> list[float]:
    found: list[float] = model[1].predict_proba(np.array([[values[f] for f in FEATURES]]))[0].tolist()
    return found


def test_a_key_alone_gives_the_answer_that_all_features_give(
    predictor: Loaded, model: tuple[Any, Any]
) -> None:
    for number in (0, 3, 77, 150, 199):
        by_key = ask(predictor, {"features": {"customer_id": f"{number:05}"}})["result"]
        by_features = ask(predictor, {"features": row_of(number)})["result"]
        assert by_key == by_features
        low, high = expected(model, row_of(number))
        assert by_key["probas"] == pytest.approx({"0": low, "1": high}, abs=1e-5)
        assert by_key["prediction"] == int(high > low)
        assert 1 <= by_key["probaPercentile"] <= 100
        assert by_key["ignored"] is False


def test_the_percentile_is_the_place_among_the_rows_of_the_sample(
    predictor: Loaded, model: tuple[Any, Any]
) -> None:
    rows = [row_of(number) for number in range(200)]  # the sample that the model was saved with
    known = np.array([expected(model, row)[1] for row in rows])
    assert len(set(known.round(9))) > 10
    results = ask(predictor, {"items": [{"features": row} for row in rows]}, "predict-multi")["results"]
    for share, result in zip(known, results, strict=True):
        at_most = 100 * np.mean(known <= share + 1e-9)  # of a hundred rows so many have as much or less
        assert abs(result["probaPercentile"] - at_most) <= 1
    for row, result in zip(rows, results, strict=True):
        assert ask(predictor, {"features": row})["result"] == result  # in a request for one, too
    assert results[known.argmax()]["probaPercentile"] == 100
    order = np.argsort(known, kind="stable")
    in_order = [results[place]["probaPercentile"] for place in order]
    assert in_order == sorted(in_order)


def test_what_the_caller_sends_wins_over_what_is_looked_up(predictor: Loaded, model: tuple[Any, Any]) -> None:
    mixed = {**row_of(3), "frequency": 29, "spend": 900}
    sent = {"customer_id": "00003", "frequency": 29, "spend": 900}
    answer = ask(predictor, {"features": sent})["result"]
    assert answer["probas"]["1"] == pytest.approx(expected(model, mixed)[1], abs=1e-5)
    assert answer != ask(predictor, {"features": {"customer_id": "00003"}})["result"]


def test_all_features_need_no_known_key(predictor: Loaded) -> None:
    sent = {**row_of(3), "customer_id": "nobody knows"}
    assert ask(predictor, {"features": sent})["result"] == ask(predictor, {"features": row_of(3)})["result"]


def test_an_answer_tells_where_it_comes_from(predictor: Loaded) -> None:
    answer = ask(predictor, {"features": {"customer_id": "00003"}})
    context = answer["apiContext"]
    assert context["serviceId"] == "high-value-predictor"
    assert context["endpointId"] == "high-value"
    assert context["serviceGeneration"] == context["packageVersion"] == "v1"
    assert context["packageDigest"] == predictor.manifest.digest
    assert context["dataCommits"] == dict(predictor.manifest.commits)
    assert set(context["dataCommits"]) == {"customer-features", "high-value-customers"}
    assert context["model"] == "high_value@onnx"
    assert context["requestId"] == "r-1"
    assert set(answer["timing"]) == {"preProcessing", "enrich", "predictionPredict"}


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b"{", "MalformedJson", "the body is not JSON: Input data was truncated"),
        (
            b'{"features": {"recency": NaN}}',
            "MalformedJson",
            "the body is not JSON: invalid character (byte 25)",
        ),
        (b"[]", "InvalidRequest", "the body is a list of 0, expected an object"),
        (b"", "InvalidRequest", "'features' is missing"),
        ({"feature": {}}, "InvalidRequest", "'features' is missing (is 'feature' meant to be it?)"),
        ({"features": 3}, "InvalidRequest", "the features are 3, expected an object"),
        (
            {"features": {"custmer_id": "00003", "recency": "x", "frequency": 1.5, "spend": True}},
            "InvalidFeatures",
            (
                "unknown feature 'custmer_id' (did you mean 'customer_id'?); "
                "feature 'recency' is \"x\", expected a whole number; "
                "feature 'frequency' is 1.5, expected a whole number; "
                "feature 'spend' is true, expected a number"
            ),
        ),
        (
            {"features": {"customer_id": 3}},
            "InvalidFeatures",
            "feature 'customer_id' is 3, expected text",
        ),
        (
            {"features": {"customer_id": "00003", "spend": None}},
            "InvalidFeatures",
            "feature 'spend' is null, expected a number",
        ),
        (
            {"features": {"recency": 10**30}},
            "InvalidFeatures",
            f"feature 'recency' is {10**30}, expected a whole number of 64 bits",
        ),
        ({"features": {"recency": 3}}, "MissingFeatures", "features are missing: frequency, spend"),
        ({"features": {}}, "MissingFeatures", "features are missing: recency, frequency, spend"),
    ],
)
def test_what_is_wrong_is_named_with_value_and_expectation(
    predictor: Loaded, body: Any, error: str, message: str
) -> None:
    found = refused(predictor, body)
    assert (found.status, found.error_type, found.message) == (400, error, message)


def test_the_missing_key_is_suggested(predictor: Loaded) -> None:
    assert refused(predictor, {"features": {"recency": 3}}).detail == (
        "features are missing: frequency, spend. Send them, or 'customer_id' to have them looked up"
    )


def test_an_unknown_customer_is_told(predictor: Loaded) -> None:
    found = refused(predictor, {"features": {"customer_id": "99999"}})
    assert (found.status, found.error_type) == (404, "NoMatch")
    assert found.message == 'nothing is known of customer_id "99999"'


def test_deep_nesting_is_refused(predictor: Loaded) -> None:
    bomb = b'{"features": ' + b"[" * 200_000
    assert refused(predictor, bomb).message == "the body is nested too deeply"


def test_values_the_model_cannot_calculate_with_are_refused(predictor: Loaded) -> None:
    found = refused(predictor, {"features": {**row_of(3), "spend": 1e300}})
    assert found.message == "feature 'spend' is 1e+300, expected a number between -3.4e+38 and 3.4e+38"
    assert refused(predictor, b'{"features": {"spend": 1e400}}').status == 400


def test_a_whole_number_may_be_written_with_a_point(predictor: Loaded) -> None:
    sent = b'{"features": {"recency": 9.0, "frequency": 22, "spend": 5.25}}'
    plain = {"features": {"recency": 9, "frequency": 22, "spend": 5.25}}
    assert ask(predictor, sent)["result"] == ask(predictor, plain)["result"]


def test_what_the_stock_client_sends_besides_is_accepted(predictor: Loaded) -> None:
    explanations = {"enabled": None, "method": None, "nExplanations": None, "nMonteCarloSteps": None}
    body = {
        "features": {"customer_id": "00003"},
        "explanations": explanations,
        "dispatch": {"dispatchKey": "u1"},
        "context": {"a": [1, {"b": None}]},
    }
    assert ask(predictor, body)["result"] == ask(predictor, {"features": {"customer_id": "00003"}})["result"]
    found = refused(predictor, body | {"explanations": {"enabled": True}})
    assert (found.status, found.error_type) == (501, "ExplanationsNotAvailable")
    found = refused(predictor, body | {"dispatch": {"forcedGeneration": "v7"}})
    assert (found.status, found.error_type) == (404, "UnknownGeneration")
    assert ask(predictor, body | {"dispatch": {"forcedGeneration": "v1"}})["result"]["ignored"] is False
    found = refused(predictor, body | {"explanations": 3})
    assert (found.status, found.error_type) == (400, "InvalidRequest")


def test_many_are_answered_in_order_and_one_that_fails_does_not_fail_the_others(predictor: Loaded) -> None:
    items = [
        {"features": {"customer_id": "00003"}},
        {"features": {"customer_id": "nobody"}},
        {"features": row_of(150)},
        {"features": {"recency": "x"}},
        7,
        {"features": {"customer_id": "00150"}, "context": {}},
    ]
    results = ask(predictor, {"items": items}, "predict-multi")["results"]
    assert results[0] == ask(predictor, items[0])["result"]
    assert results[2] == results[5] == ask(predictor, items[2])["result"]
    assert [r.get("ignoreReason") for r in results] == [
        None,
        "NoMatch",
        None,
        "InvalidFeatures",
        "InvalidRequest",
        None,
    ]
    assert results[1]["error"]["status"] == 404
    assert results[3]["error"]["message"] == "feature 'recency' is \"x\", expected a whole number"


def test_many_may_be_none_but_must_be_a_list(predictor: Loaded) -> None:
    assert ask(predictor, {"items": []}, "predict-multi")["results"] == []
    found = refused(predictor, {"item": []}, "predict-multi")
    assert found.message == "'items' is missing or not a list (is 'item' meant to be it?)"
    assert refused(predictor, b"", "predict-multi").status == 400


def test_a_query_string_is_read_by_the_types_of_the_features(predictor: Loaded) -> None:
    simple = predictor.endpoints["high-value"].queries["predict-simple"]
    pairs = [("recency", "9"), ("frequency", "22"), ("spend", "5.25"), ("customer_id", "00003")]
    answer = json.loads(simple(pairs, "r"))
    assert answer["result"] == ask(predictor, {"features": {"customer_id": "00003"}})["result"]
    with pytest.raises(RequestError, match="feature 'recency' is \"nine\", expected a whole number"):
        simple([("recency", "nine")], "r")
    with pytest.raises(RequestError, match="'recency' is given twice"):
        simple([("recency", "9"), ("recency", "9")], "r")


def test_policies_may_leave_a_prediction_out_instead_of_failing(shared_mesh: Mesh) -> None:
    text = PREDICTOR.replace("key: customer_id}", "key: customer_id, missing_key: ignore, no_match: ignore}")
    text = text.replace("service: high-value-predictor", "service: lenient").replace("NoMatch", "X")
    text = text[: text.index("  test_queries")]
    service = load(shared_mesh.unpacked(shared_mesh.build(text)))
    assert ask(service, {"features": {"customer_id": "nobody"}})["result"] == {
        "ignored": True,
        "ignoreReason": "NO_LOOKUP_MATCH",
    }
    assert ask(service, {"features": {"recency": 3}})["result"] == {
        "ignored": True,
        "ignoreReason": "MISSING_LOOKUP_KEY",
    }
    many = ask(service, {"items": [{"features": {}}, {"features": row_of(3)}]}, "predict-multi")["results"]
    assert [one["ignored"] for one in many] == [True, False]


def test_answers_are_valid_json_for_any_request_id(predictor: Loaded) -> None:
    raw = predictor.endpoints["high-value"].actions["predict"](
        b'{"features":{"customer_id":"00003"}}', "a-1.b:c/d="
    )
    assert msgspec.json.decode(raw)["apiContext"]["requestId"] == "a-1.b:c/d="


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 199), sent=st.sets(st.sampled_from(FEATURES)))
def test_any_part_of_the_features_with_the_key_gives_the_answer_of_all(
    predictor: Loaded, number: int, sent: set[str]
) -> None:
    row = row_of(number)
    some = {name: row[name] for name in sent} | {"customer_id": f"{number:05}"}
    assert ask(predictor, {"features": some})["result"] == ask(predictor, {"features": dict(row)})["result"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(
    ["features", "items", "explanations", "dispatch", "context", *FEATURES, "customer_id"]
)
bodies = st.binary(max_size=60) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.dictionaries(members, json_values | st.dictionaries(members, json_values, max_size=5), max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(body=bodies, action=st.sampled_from(["predict", "predict-multi"]))
def test_no_body_gets_anything_but_an_answer_or_a_refusal(
    predictor: Loaded, body: bytes, action: str
) -> None:
    try:
        answer = predictor.endpoints["high-value"].actions[action](body, "r")
    except RequestError as error:
        assert 400 <= error.status < 500 or error.status == 501
        assert error.message
    else:
        assert json.loads(answer)["apiContext"]["requestId"] == "r"


# ── features in answers ──────────────────────────────────────────────────────────────────────────────────

SHOWING = PREDICTOR.replace("high-value-predictor", "showing").replace(
    "  test_queries",
    "  show_features: {features: [spend, recency]}\n  explanations: {steps: 25}\n  test_queries",
)


@pytest.fixture(scope="module")
def showing_folder(shared_mesh: Mesh) -> Path:
    return shared_mesh.unpacked(shared_mesh.build(SHOWING))


def test_features_are_told_as_the_model_was_given_them_when_they_are_asked_for(showing_folder: Path) -> None:
    showing = load(showing_folder)
    body = {"features": {"customer_id": "00003", "recency": 7}}
    plain = ask(showing, body)["result"]
    assert "features" not in plain
    assert "features" not in ask(showing, body | {"showFeatures": False})["result"]
    assert "features" not in ask(showing, body | {"showFeatures": None})["result"]
    told = ask(showing, body | {"showFeatures": True})["result"]
    assert told == plain | {"features": {"spend": 5.25, "recency": 7}}  # looked up, and as it was sent
    items = [body, {"features": {"customer_id": "nobody"}}, {"features": {"customer_id": "00005"}}]
    many = ask(showing, {"items": items, "showFeatures": True}, "predict-multi")["results"]
    assert [one.get("features") for one in many] == [
        {"spend": 5.25, "recency": 7},
        None,
        {"spend": 8.75, "recency": 15},
    ]

    async def explained() -> Any:
        asked = json.dumps(body | {"showFeatures": True, "explanations": {"enabled": True}}).encode()
        given: Any = showing.endpoints["high-value"].actions["predict"]
        return json.loads((await given(asked, "r")).body)["result"]

    result = asyncio.run(explained())
    assert (set(result["explanations"]), result["features"]) == (
        {"spend", "recency", "frequency"},
        told["features"],
    )
    direct = showing.endpoints["high-value"].direct  # type: ignore[attr-defined]
    assert json.loads(direct(json.dumps(body | {"showFeatures": True}).encode())) == told
    document = json.loads((showing_folder / "openapi.json").read_text())
    operation = document["paths"]["/high-value/predict"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    valid = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    valid.validate(ask(showing, body | {"showFeatures": True}))
    assert not valid.is_valid({"result": {**told, "features": {"spend": "much"}}, "apiContext": {}})
    takes = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert takes["showFeatures"]["default"] is False


def test_features_are_told_always_where_the_endpoint_says_so(shared_mesh: Mesh) -> None:
    text = SHOWING.replace("recency]}", "recency], enabled: true}").replace("showing", "always")
    always = load(shared_mesh.unpacked(shared_mesh.build(text)))
    body = {"features": {"customer_id": "00003"}}
    assert ask(always, body)["result"]["features"] == {"spend": 5.25, "recency": 9}
    assert "features" not in ask(always, body | {"showFeatures": False})["result"]
    simple: Any = always.endpoints["high-value"].queries["predict-simple"]  # type: ignore[attr-defined]
    assert json.loads(simple([("customer_id", "00003")], "r"))["result"]["features"]["spend"] == 5.25


def test_an_endpoint_that_names_no_features_tells_none(predictor: Loaded, shared_mesh: Mesh) -> None:
    for action, body in (
        ("predict", {"features": {"customer_id": "00003"}, "showFeatures": True}),
        ("predict-multi", {"items": [], "showFeatures": True}),
    ):
        error = refused(predictor, body, action)
        assert (error.status, error.error_type) == (501, "FeaturesNotShown")
        assert "`show_features:`" in error.detail
    assert (
        "features"
        not in ask(predictor, {"features": {"customer_id": "00003"}, "showFeatures": False})["result"]
    )
    error = refused(predictor, {"features": {"customer_id": "00003"}, "showFeatures": "yes"})
    assert (error.status, error.error_type) == (400, "InvalidRequest")
    with pytest.raises(Invalid, match="'spent' is no feature of model 'high_value'") as caught:
        shared_mesh.build(SHOWING.replace("[spend, recency]", "[spent]").replace("showing", "unknown-one"))
    assert "'spend'" in str(caught.value.problems[0].hint)
