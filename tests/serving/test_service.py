"""Services files: read into values, every problem told with its place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jsonschema_rs
import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR

from tulle.errors import Invalid, Place
from tulle.serving.declared import LookupSpec, PredictSpec, rows_of
from tulle.serving.keyed_rows import KeyedRows
from tulle.serving.service import load_service, load_services, service_schema


def test_a_file_is_read_into_values() -> None:
    service = load_service(PREDICTOR, name="s.yaml")
    assert (service.name, service.description) == (
        "high-value-predictor",
        "Will a customer be among the best?",
    )
    endpoint = service.endpoints[0]
    assert isinstance(endpoint, PredictSpec)
    key = (("customer_id", "customer_id"),)
    assert endpoint.enrich == (KeyedRows("customer-features", "customer_features", key),)
    assert [q.expect for q in endpoint.test_queries] == [None, {"error": "NoMatch"}]
    assert endpoint.places["model"].line == 8
    lookups = load_service(LOOKUPS, name="s.yaml").endpoints
    assert isinstance(lookups[1], LookupSpec)
    assert lookups[1].rows.key == (("first_on", "first_on"), ("number", "number"))
    assert lookups[1].rows.columns == (("customer_id", "customer_id"), ("vip", "vip"))


def test_every_problem_is_told_at_its_place() -> None:
    text = """
service: High
descripton: x
endpoints:
- name: high-value
  type: predict
  modle: high_value
  enrich:
  - {product: customer-features, dataset: customer_features, key: [], missing_key: err}
- name: high-value
  type: lokup
- {name: a, type: lookup, data_set: x, key: 3, test_queries: [{name: x, features: {}}]}
"""
    with pytest.raises(Invalid) as caught:
        load_service(text, name="s.yaml")
    found = {(p.place.line, p.place.column): p for p in caught.value.problems if p.place}
    assert found[2, 10].message.startswith("'service' is the text 'High', expected 3 to 63")
    assert found[3, 1].hint == "did you mean 'description'?"
    assert found[7, 3].hint == "did you mean 'model'?"
    assert found[9, 34].hint == "did you mean 'data_set'?"
    assert "at least 1 entry" in found[9, 67].message
    assert found[9, 84].hint == "did you mean 'error'?"
    assert found[10, 9].message == "endpoint 'high-value' is declared twice"
    assert found[11, 9].hint == "did you mean 'lookup'?"
    assert found[12, 45].message.endswith(
        "expected the name of a column, a list of them, or {name sent: column}"
    )
    assert found[12, 63].message == "'data' is missing in 'test_queries[0]' in endpoint 'a'"


def test_how_rows_are_found_is_read() -> None:
    text = """
service: spending
endpoints:
- name: months
  type: lookup
  data_set: months
  key: {customer: customer_id, month: month}
  columns: {spent: amount}
  defaults: {spent: 0}
  no_match: default
  several: all
  order_by: [-booked_at, month]
  most_rows: 5
  event_time: booked_at
  max_age: 30 days
  too_old: ignore
"""
    (endpoint,) = load_service(text, name="s.yaml").endpoints
    assert isinstance(endpoint, LookupSpec)
    assert endpoint.rows == KeyedRows(
        product="",
        data_set="months",
        key=(("customer", "customer_id"), ("month", "month")),
        columns=(("spent", "amount"),),
        defaults={"spent": 0},
        no_match="default",
        several="all",
        order_by=("-booked_at", "month"),
        most_rows=5,
        event_time="booked_at",
        max_age_seconds=30 * 86_400,
        too_old="ignore",
    )
    assert endpoint.rows.places["max_age"].line == 15


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_age: 3 days", "'event_time' is missing"),
        ("too_old: error", "'max_age' is missing"),
        ("most_rows: 3", "'several' is missing"),
        ("most_rows: 1001", "most 1000"),
        ("several: some", "is the text 'some', expected one of 'forbidden'"),
        ("missing_key: keep", "is the text 'keep', expected one of 'error', 'ignore', 'default'"),
        ("lookups: []", "is an empty list, expected at least 1 entry"),
        ("lookups: [{data_set: y, key: k}]", "expected nothing here: each of `lookups` says its own"),
        ("max_age: soon", "a span of time"),
        ("defaults: {a: [1]}", "defaults"),
    ],
)
def test_what_makes_no_sense_of_rows_is_told(line: str, message: str) -> None:
    text = f"service: abc\nendpoints:\n- name: a\n  type: lookup\n  data_set: x\n  key: k\n  {line}\n"
    with pytest.raises(Invalid) as caught:
        load_service(text, name="s.yaml")
    told = "; ".join(str(problem) for problem in caught.value.problems)
    assert message in told
    assert "s.yaml:" in told


def test_a_lookup_has_one_data_set_or_several() -> None:
    text = """
service: abc
endpoints:
- name: a
  type: lookup
  lookups:
  - {data_set: x, key: k}
  - {data_set: y, key: {other: k}, several: all, most_rows: 3, missing_key: ignore}
"""
    (endpoint,) = load_service(text, name="s.yaml").endpoints
    assert isinstance(endpoint, LookupSpec)
    assert [(rows.data_set, rows.path) for rows in rows_of(endpoint)] == [
        ("x", ("lookups", 0)),
        ("y", ("lookups", 1)),
    ]
    assert (endpoint.joined[0].missing_key, endpoint.joined[0].most_rows) == ("ignore", 3)
    assert endpoint.joined[0].places["key"].line == 8
    for said, message in (
        ("key: k", "'data_set' is missing in endpoint 'a'"),
        ("lookups: [{data_set: x}]", "'key' is missing in 'lookups[0]' in endpoint 'a'"),
        ("lookups: [{data_set: x, kee: k}]", "unknown property 'kee' in 'lookups[0]' in endpoint 'a'"),
    ):
        with pytest.raises(Invalid) as caught:
            load_service(f"service: abc\nendpoints:\n- name: a\n  type: lookup\n  {said}\n", name="s.yaml")
        assert [problem.message for problem in caught.value.problems] == [message]


@pytest.mark.parametrize("text", ["", "[]", "service: abc", "service: abc\nendpoints: 3", "endpoints: [3]"])
def test_what_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_service(text, name="s.yaml")
    assert caught.value.problems


def test_the_services_of_a_product_are_told_together(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    place = Place("products/shop/p/product.yaml", 1)
    product = SimpleNamespace(name="p", folder=tmp_path, place=place)
    assert load_services(SimpleNamespace(name="p", folder=tmp_path / "nothing", place=None)) == ()
    (folder / "b.yaml").write_text(PREDICTOR)
    (folder / "a.yml").write_text(LOOKUPS)
    assert [s.name for s in load_services(product)] == ["customer-features", "high-value-predictor"]
    (folder / "c.yaml").write_text(LOOKUPS)
    (folder / "d.yaml").write_text("service: x")
    with pytest.raises(Invalid, match="the services of product 'p' are not valid: 3 problems") as caught:
        load_services(product)
    files = {problem.place.file for problem in caught.value.problems if problem.place}
    assert files == {"products/shop/p/services/a.yml", "products/shop/p/services/d.yaml"}
    messages = [problem.message for problem in caught.value.problems]
    assert "service 'customer-features' is also declared in c.yaml" in messages


def test_the_published_schema_judges_as_we_do() -> None:
    schema = jsonschema_rs.Draft202012Validator(dict(service_schema()))
    endpoint = {"name": "a", "type": "lookup", "data_set": "x", "key": "k"}
    assert schema.is_valid({"service": "abc", "endpoints": [endpoint]})
    assert not schema.is_valid({"service": "abc", "endpoints": [endpoint | {"model": "m"}]})
    assert not schema.is_valid({"service": "abc", "endpoints": [{"name": "a", "type": "predict"}]})


@pytest.mark.parametrize(
    "endpoints", ["1", "a: b", "[1]", "[{name: a, type: [lookup]}]", "[{name: [a], type: lookup}]"]
)
def test_endpoints_that_are_none_are_told_whatever_lies_beside_them(tmp_path: Path, endpoints: str) -> None:
    file = tmp_path / "some-service.yaml"
    file.write_text(f"service: some-service\nendpoints: {endpoints}\n")
    (tmp_path / "queries/some-service").mkdir(parents=True)
    (tmp_path / "queries/some-service/a.yaml").write_text("[]\n")
    (tmp_path / "some-service.openapi.yaml").write_text(
        "overlay: 1.0.0\ninfo: {title: x, version: '1'}\nactions: [{target: $.info, update: {title: y}}]\n"
    )
    with pytest.raises(Invalid) as wrong:
        load_service(file)
    assert wrong.value.problems
