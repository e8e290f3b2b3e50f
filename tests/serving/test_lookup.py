"""Lookups: rows by key with their types, and what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pyarrow as pa
import pytest
from tests.serving.conftest import Mesh, customers, make_mesh, parquet

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.errors import Invalid
from tulle.pipeline.model_file import ModelFile
from tulle.serving.fit import misfits
from tulle.serving.loaded import Loaded, load
from tulle.serving.lookup import Lookup
from tulle.serving.request import RequestError
from tulle.serving.sendable import sendable
from tulle.serving.service import load_service
from tulle.serving.training import ENTITIES, Asked, relation_of, training_sql


def ask(service: Loaded, body: Any, action: str = "lookup", endpoint: str = "profile") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = json.loads(service.endpoints[endpoint].actions[action](raw, "r-1"))
    assert isinstance(answer, dict)
    return answer


def refused(service: Loaded, body: Any, endpoint: str = "profile") -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(service, body, endpoint=endpoint)
    return caught.value


def test_a_row_keeps_its_types(lookups: Loaded) -> None:
    answer = ask(lookups, {"data": {"customer_id": "00003"}})
    assert answer["results"] == [
        {
            "data": {
                "customer_id": "00003",
                "number": 3,
                "recency": 9,
                "frequency": 22,
                "spend": 5.25,
                "first_on": "1997-01-04",
                "seen_at": "1998-06-30T12:00:03Z",
                "vip": False,
                "note": None,
                "score": 1.0,
            }
        }
    ]
    assert answer["apiContext"]["endpointId"] == "profile"
    assert list(answer["apiContext"]["dataCommits"]) == ["customer-features"]


def test_text_and_nulls_are_what_they_are(lookups: Loaded) -> None:
    row = ask(lookups, {"data": {"customer_id": "00005"}})["results"][0]["data"]
    assert (row["note"], row["score"]) == ("note «5»", None)


def test_decimals_have_all_their_digits(lookups: Loaded) -> None:
    raw = lookups.endpoints["profile"].actions["lookup"](b'{"data": {"customer_id": "00004"}}', "r")
    assert b'"spend":7.00,' in raw


def test_several_columns_may_be_the_key(lookups: Loaded) -> None:
    found = ask(lookups, {"data": {"first_on": "1997-01-04", "number": 3}}, endpoint="by-day")
    assert found["results"] == [{"data": {"customer_id": "00003", "vip": False}}]
    again = ask(lookups, {"data": {"number": 93, "first_on": "1997-01-04"}}, endpoint="by-day")
    assert again["results"][0]["data"]["customer_id"] == "00093"
    error = refused(lookups, {"data": {"number": 3}}, "by-day")
    assert (error.status, error.message) == (400, "the key is missing: first_on")
    error = refused(lookups, {"data": {"first_on": "1997-13-04", "number": "3"}}, "by-day")
    assert error.message == (
        'key \'first_on\' is "1997-13-04", expected a date such as "1998-06-30"; '
        "key 'number' is \"3\", expected a whole number"
    )


@pytest.mark.parametrize(
    ("body", "status", "error", "message"),
    [
        (b"", 400, "InvalidRequest", "'data' is missing"),
        (b"{x}", 400, "MalformedJson", "the body is not JSON: object keys must be strings (byte 1)"),
        (b"3", 400, "InvalidRequest", "the body is 3, expected an object"),
        ({"data": {}}, 400, "MissingKey", "the key is missing: customer_id"),
        ({"data": {"customer_id": None}}, 400, "InvalidKey", "key 'customer_id' is null, expected text"),
        ({"data": {"id": "1"}}, 400, "InvalidKey", "unknown key 'id' (known: customer_id)"),
        ({"data": {"customer_id": "x"}}, 404, "NoMatch", 'nothing is known of customer_id "x"'),
        (
            {"data": {"customer_id": "x" * 9000}},
            404,
            "NoMatch",
            f'nothing is known of customer_id "{"x" * 60}…"',
        ),
    ],
)
def test_what_is_wrong_is_named(lookups: Loaded, body: Any, status: int, error: str, message: str) -> None:
    found = refused(lookups, body)
    assert (found.status, found.error_type, found.message) == (status, error, message)


def test_many_are_found_in_order_and_one_that_is_not_does_not_fail_the_others(lookups: Loaded) -> None:
    items: list[Any] = [{"data": {"customer_id": key}} for key in ("00007", "none", "00003")]
    results = ask(lookups, {"items": [*items, {"dat": {}}, 3]}, "lookup-multi")["results"]
    assert [r["data"]["number"] for r in (results[0], results[2])] == [7, 3]
    assert [r["ignoreReason"] for r in (results[1], results[3], results[4])] == [
        "NoMatch",
        "InvalidRequest",
        "InvalidRequest",
    ]


def test_a_forced_generation_that_is_another_is_refused(lookups: Loaded) -> None:
    body = {"data": {"customer_id": "00003"}, "dispatch": {"forcedGeneration": "v2"}, "context": {}}
    assert refused(lookups, body).error_type == "UnknownGeneration"


# ── several data sets ────────────────────────────────────────────────────────────────────────────────────

NOW = dt.datetime.now(dt.UTC)
VISITS = pa.table(
    {
        "customer": ["00003", "00003", "00004"],
        "shop": ["a", "b", "c"],
        "spent": [1.5, 2.5, None],
        "at": pa.array([NOW - dt.timedelta(days=days) for days in (3, 1, 40)], pa.timestamp("us", "UTC")),
    }
)
JOINED = """
service: joined
endpoints:
- name: plain
  type: lookup
  lookups:
  - {product: customer-features, data_set: customer_features, key: {who: customer_id}, columns: [who_id, spend]}
  - {product: customer-features, data_set: customer_features, key: {day: first_on, number: number}, columns: [vip]}
- name: told
  type: lookup
  description: What we know of a customer
  lookups:
  - product: customer-features
    data_set: customer_features
    key: {who: customer_id}
    columns: {recency: recency, spend: spend}
    defaults: {recency: 365}
    no_match: default
  - product: customer-features
    data_set: visits
    key: {who: customer}
    columns: {last_shop: shop, spent: spent}
    several: all
    most_rows: 1
    order_by: [-at]
    event_time: at
    max_age: 30 days
    missing_key: default
    no_match: ignore
  - product: customer-features
    data_set: customer_features
    key: number
    columns: [vip]
    missing_key: default
  test_queries:
  - {name: one, data: {who: '00003'}, expect: {spend: 5.25, last_shop: b}}
- name: learned
  type: lookup
  lookups:
  - {product: customer-features, data_set: customer_features, key: {who: customer_id}, columns: [recency, spend]}
  - product: customer-features
    data_set: visits
    key: {visitor: customer}
    columns: {last_shop: shop}
    several: first
    order_by: [-at]
    event_time: at
    defaults: {last_shop: none}
    missing_key: default
    no_match: default
- name: may-be-left-out
  type: lookup
  product: customer-features
  data_set: customer_features
  key: [first_on, number]
  columns: [vip, spend]
  missing_key: ignore
- name: has-a-default
  type: lookup
  product: customer-features
  data_set: customer_features
  key: customer_id
  columns: [vip, spend]
  defaults: {spend: 0.5}
  missing_key: default
- name: offer
  type: compose
  input: {who: {}}
  steps: [{name: it, call: told, with: {who: $input.who}}, {name: row, call: plain, with: {who: $input.who, day: '1997-01-04', number: 3}}]
  output: {shops: $it.lookups.1.rows, spend: $it.data.spend, vip: $row.vip}
""".replace("columns: [who_id, spend]", "columns: {who_id: customer_id, spend: spend}")


@pytest.fixture(scope="module")
def joined_mesh(tmp_path_factory: pytest.TempPathFactory, model: tuple[ModelFile, Any]) -> Iterator[Mesh]:
    made = make_mesh(tmp_path_factory.mktemp("joined"), model[0])
    features = made.lake.repository("customer-features")
    features.put("main", "visits/part-0000.parquet", parquet(VISITS))
    features.commit("main", "visits")
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def folder(joined_mesh: Mesh) -> Path:
    return joined_mesh.unpacked(joined_mesh.build(JOINED))


@pytest.fixture(scope="module")
def joined(folder: Path) -> Loaded:
    return load(folder)


def test_the_columns_of_several_data_sets_stand_in_one_answer(joined: Loaded) -> None:
    body = {"data": {"who": "00007", "day": "1997-01-04", "number": 3}}
    answer = ask(joined, body, endpoint="plain")
    assert answer["results"] == [{"data": {"who_id": "00007", "spend": 12.25, "vip": False}}]
    assert list(answer["apiContext"]["dataCommits"]) == ["customer-features"]
    raw = joined.endpoints["plain"].actions["lookup"](json.dumps(body).encode(), "r")
    assert b'"spend":12.25,"vip":false' in raw
    items = [body, {"data": {"who": "nobody", "day": "1997-01-04", "number": 3}}, {"data": {"who": "00007"}}]
    results = ask(joined, {"items": items}, "lookup-multi", "plain")["results"]
    assert [one.get("ignoreReason") for one in results] == [None, "NoMatch", "MissingKey"]
    error = refused(joined, items[2], "plain")
    assert (error.status, error.message) == (400, "the key is missing: day, number")
    assert error.detail.endswith('. Send {"data": {"day": …, "number": …}}')
    error = refused(joined, {"data": {"who": 3, "nobody": 1}}, "plain")
    assert error.message == "unknown key 'nobody' (known: day, number, who); key 'who' is 3, expected text"


def test_each_data_set_has_policies_of_its_own_and_tells_how_its_row_was_found(joined: Loaded) -> None:
    (found,) = ask(joined, {"data": {"who": "00003", "number": 4}}, endpoint="told")["results"]
    since = (NOW - dt.timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert found == {
        "data": {"recency": 9, "spend": 5.25, "last_shop": "b", "spent": 2.5, "vip": True},
        "lookups": [
            {"dataSet": "customer_features", "status": "PRESENT"},
            {
                "dataSet": "visits",
                "status": "PRESENT",
                "eventTime": since,
                "found": 2,
                "rows": [{"last_shop": "b", "spent": 2.5}],
            },
            {"dataSet": "customer_features", "status": "PRESENT"},
        ],
    }
    (old,) = ask(joined, {"data": {"who": "00004"}}, endpoint="told")["results"]
    assert old["data"] == {"recency": 12, "spend": 7.0, "last_shop": "c", "spent": None, "vip": None}
    assert [one["status"] for one in old["lookups"]] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    for key in ("00005", "nobody"):  # of whom no visit is known
        assert ask(joined, {"data": {"who": key}}, endpoint="told")["results"] == [
            {"data": {}, "ignored": True, "ignoreReason": "NO_LOOKUP_MATCH"}
        ]
    error = refused(joined, {"data": {"number": 3}}, "told")
    assert (error.error_type, error.message) == ("MissingKey", "the key is missing: who")


def test_a_key_that_is_not_sent_is_refused_left_out_or_has_the_defaults(joined: Loaded) -> None:
    for data in ({}, {"number": 3}):
        assert ask(joined, {"data": data}, endpoint="may-be-left-out")["results"] == [
            {"data": {}, "ignored": True, "ignoreReason": "MISSING_LOOKUP_KEY"}
        ]
    assert ask(joined, {"data": {}}, endpoint="has-a-default")["results"] == [
        {"data": {"vip": None, "spend": 0.5}, "status": "NOT_FOUND"}
    ]
    assert ask(joined, {"data": {"customer_id": "00003"}}, endpoint="has-a-default")["results"] == [
        {"data": {"vip": False, "spend": 5.25}}
    ]
    many = ask(
        joined, {"items": [{"data": {}}, {"data": {"customer_id": "x"}}, {}]}, "lookup-multi", "has-a-default"
    )
    assert [one.get("ignoreReason", one.get("status")) for one in many["results"]] == [
        "NOT_FOUND",
        "NoMatch",
        "InvalidRequest",
    ]
    error = refused(
        joined, {"data": {"customer_id": None}}, "has-a-default"
    )  # null is no key, and none unsent
    assert error.error_type == "InvalidKey"


def test_steps_see_the_row_or_all_where_a_data_set_gives_several(joined: Loaded) -> None:
    status, answer = asyncio.run(joined.ask("offer", {"who": "00003"}))
    assert (status, json.loads(answer)["response"]) == (
        200,
        {"shops": [{"last_shop": "b", "spent": 2.5}], "spend": 5.25, "vip": False},
    )


def test_what_several_data_sets_answer_is_described(folder: Path, joined: Loaded) -> None:
    document = json.loads((folder / "openapi.json").read_text())
    for endpoint, bodies in (
        ("told", ({"who": "00003"}, {"who": "00003", "number": 3}, {"who": "nobody"})),
        ("plain", ({"who": "00007", "day": "1997-01-04", "number": 3},)),
        ("may-be-left-out", ({}, {"first_on": "1997-01-04", "number": 3})),
        ("has-a-default", ({}, {"customer_id": "00003"})),
    ):
        operation = document["paths"][f"/{endpoint}/lookup"]["post"]
        takes = operation["requestBody"]["content"]["application/json"]["schema"]
        gives = operation["responses"]["200"]["content"]["application/json"]["schema"]
        for data in bodies:
            answer = ask(joined, {"data": data}, endpoint=endpoint)
            jsonschema_rs.Draft202012Validator(takes).validate({"data": data})
            valid = jsonschema_rs.Draft202012Validator({**gives, "components": document["components"]})
            valid.validate(answer)
            told = answer["results"][0].get("lookups")
            if told:
                told.pop()
                assert not valid.is_valid(answer)
    plain = document["paths"]["/plain/lookup"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert plain["properties"]["data"]["required"] == ["who", "day", "number"]


def test_whether_it_is_well_is_asked_with_a_key_that_all_of_them_have(joined: Loaded) -> None:
    probes = {one["name"]: one.get("probe") for one in joined.manifest.endpoints}
    assert probes["told"] == {"data": {"who": "00003"}}  # the test query
    assert probes["plain"] is None or ask(joined, probes["plain"], endpoint="plain")["results"]
    assert asyncio.run(joined.probe()) == {}


@pytest.mark.parametrize(
    ("second", "message", "line"),
    [
        ("data_set: visits, key: {who: customer}, columns: [shap]", "has no column 'shap'", 9),
        (
            "data_set: customer_features, key: {id: customer_id}, columns: [spend]",
            "'spend' is a column of 'customer_features' and of 'customer_features', and one answer has both",
            9,
        ),
        (
            "data_set: customer_features, key: {who: customer_id}",
            "'spend' is a column of 'customer_features' and of 'customer_features', and one answer has both",
            9,
        ),
    ],
)
def test_columns_that_one_answer_cannot_have_are_told_with_their_place(
    joined_mesh: Mesh, second: str, message: str, line: int
) -> None:
    text = f"""
service: wrong
endpoints:
- name: it
  type: lookup
  lookups:
  - {{product: customer-features, data_set: customer_features, key: {{who: customer_id}}, columns: [spend]}}
  -
    {{product: customer-features, {second}}}
"""
    known = {
        "customer_features": {"customer_id": "string", "spend": "double"},
        "visits": {"customer": "string", "shop": "string"},
    }
    problem, *_ = misfits([load_service(text, name="services/s.yaml")], lambda _, data_set: known[data_set])
    assert message in problem.message
    with pytest.raises(Invalid) as caught:
        joined_mesh.build(text)
    assert message in caught.value.message
    (packaged,) = caught.value.problems
    assert packaged.place is not None
    assert packaged.place.line == line


def test_a_name_is_sent_for_columns_of_one_type(joined_mesh: Mesh) -> None:
    text = """
service: wrong
endpoints:
- name: it
  type: lookup
  lookups:
  - {product: customer-features, data_set: customer_features, key: {who: customer_id}, columns: [spend]}
  - {product: customer-features, data_set: customer_features, key: {who: number}, columns: [vip]}
"""
    with pytest.raises(Invalid, match="key 'who' is string in 'customer_features' and integer in"):
        joined_mesh.build(text)


def test_all_columns_are_taken_but_those_of_a_key_that_are_there(joined_mesh: Mesh) -> None:
    text = """
service: whole
endpoints:
- name: it
  type: lookup
  lookups:
  - {product: customer-features, data_set: visits, key: customer, several: first}
  - {product: customer-features, data_set: visits, key: customer, several: first, columns: {paid: spent}}
"""
    loaded = load(joined_mesh.unpacked(joined_mesh.build(text)))
    (found,) = ask(loaded, {"data": {"customer": "00004"}}, endpoint="it")["results"]
    assert list(found["data"]) == ["customer", "shop", "spent", "at", "paid"]


def test_a_prediction_for_each_row_and_a_value_of_all_are_a_composition(joined_mesh: Mesh) -> None:
    text = """
service: each
endpoints:
- name: of-kind
  type: lookup
  product: customer-features
  data_set: customer_features
  key: vip
  columns: [customer_id, recency, frequency, spend]
  several: all
  most_rows: 3
  order_by: [-number]
- {name: chance, type: predict, model: high_value}
- name: chances
  type: compose
  input: {vip: {type: boolean}}
  steps:
  - {name: found, call: of-kind, with: {vip: $input.vip}}
  - name: each
    call: chance
    map: $found.rows
    as: row
    with: {recency: $row.recency, frequency: $row.frequency, spend: $row.spend}
  output: {found: $found.found, chances: $each, spent: '$(sum(r.spend for r in found.rows))'}
"""
    loaded = load(joined_mesh.unpacked(joined_mesh.build(text)))
    status, answer = asyncio.run(loaded.ask("chances", {"vip": True}))
    assert status == 200
    said = json.loads(answer)["response"]
    (rows,) = ask(loaded, {"data": {"vip": True}}, endpoint="of-kind")["results"]
    assert [one["customer_id"] for one in rows["rows"]] == ["00198", "00196", "00194"]
    predict = loaded.endpoints["chance"].actions["predict"]
    for row, chance in zip(rows["rows"], said["chances"], strict=True):
        features = {name: row[name] for name in ("recency", "frequency", "spend")}
        given = json.loads(predict(json.dumps({"features": features}).encode(), "r"))  # type: ignore[arg-type,operator]
        assert chance == given["result"]
    assert (said["found"], said["spent"]) == (100, pytest.approx(sum(row["spend"] for row in rows["rows"])))


def test_what_is_trained_with_is_what_several_data_sets_answer(joined: Loaded, tmp_path: Path) -> None:
    endpoint = joined.endpoints["learned"]
    assert isinstance(endpoint, Lookup)
    who = ["00003", "00003", "00005", "nobody", None, "00004"]
    visitor = ["00003", "00004", "00005", "00003", "00003", None]
    entities = {"who": who, "visitor": visitor, "when": [NOW] * 6, "label": list(range(6))}
    for name, table in (("entities", pa.table(entities)), ("a", customers()), ("b", VISITS)):
        (tmp_path / f"{name}.parquet").write_bytes(parquet(table))
    known = {"who": "string", "visitor": "string", "when": "timestamp", "label": "integer"}
    sql = training_sql(endpoint.entry.look_ups, Asked(known, "when", is_model=False))
    relations = [
        Relation(name, (str(tmp_path / f"{file}.parquet"),))
        for name, file in ((ENTITIES, "entities"), (relation_of(0), "a"), (relation_of(1), "b"))
    ]
    rows = DuckEngine(Warehouse(threads=1, memory="256MB"), tmp_path / "spill").query(sql, relations)
    trained = {row["label"]: row for row in rows.to_pylist()}
    items = [
        {"data": {name: key for name, key in (("who", one), ("visitor", other)) if key is not None}}
        for one, other in zip(who, visitor, strict=True)
    ]
    answers = ask(joined, {"items": items}, "lookup-multi", "learned")["results"]
    assert (
        {label for label, one in enumerate(answers) if "ignored" not in one} == set(trained) == {0, 1, 2, 5}
    )
    for label, row in trained.items():
        found = {name: float(row[name]) if name == "spend" else row[name] for name in answers[label]["data"]}
        assert found == answers[label]["data"]
    assert [trained[label]["last_shop"] for label in sorted(trained)] == ["b", "c", "none", "none"]


def test_rows_become_requests_with_the_keys_that_are_needed_and_those_that_are_there() -> None:
    endpoints = {one.name: one for one in load_service(JOINED, name="s.yaml").endpoints}
    plain = sendable(endpoints["plain"], (), None)
    assert (plain.word, plain.alternatives, plain.optional) == ("data", (("who", "day", "number"),), ())
    told = sendable(endpoints["told"], (), None)
    assert (told.alternatives, told.optional) == ((("who",),), ("number",))
    rows = [{"customer_id": "00003", "number": 3}, {"customer_id": "00004", "number": 4}]
    assert told.bodies(rows, {"who": "customer_id"}) == (
        "data",
        [{"who": "00003", "number": 3}, {"who": "00004", "number": 4}],
    )
    with pytest.raises(Invalid, match="no column for day of endpoint 'plain'"):
        plain.bodies(rows, {"who": "customer_id"})
