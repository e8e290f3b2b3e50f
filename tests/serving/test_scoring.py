"""Batch forms: every row's answer is the answer that a request with it would get, and every row has one."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh, Product, customers, parquet

from tulle.engine.engine import ColumnType
from tulle.errors import Invalid
from tulle.pipeline.convert import columns_of, in_mesh_types
from tulle.serving.loaded import Loaded, load
from tulle.serving.scoring import Scoring
from tulle.serving.service import load_service

FUNCTION = """
def total(price: float, number: int = 1) -> dict:
    if number < 0:
        raise ValueError("no such number")
    return {"total": price * number}
"""
MORE = """
service: more
endpoints:
- {name: total, type: function, file: prices.py, pool: {floor: 1, ceil: 2}}
- name: of-city
  type: query
  sql: SELECT item, "left" FROM stock WHERE "left" >= $least ORDER BY item
  data_sets: {stock: {product: customer-features, data_set: stock}}
  parameters: {least: {type: integer}}
- {name: stock, type: lookup, product: customer-features, data_set: stock, key: item}
- name: both
  type: compose
  input: {item: {}, price: {type: double}}
  steps:
  - {name: stock, call: stock, with: {item: $input.item}}
  - {name: total, call: total, with: {price: $input.price, number: $stock.left}}
  output: {left: $stock.left, total: $total.total}
"""


def scored(
    service: Loaded, endpoint: str, table: pa.Table, **how: Any
) -> tuple[list[dict[str, Any]], Scoring]:
    """What comes out, the rows given in pieces of forty."""
    table = in_mesh_types(table, "rows")
    scoring = Scoring(service, endpoint, columns_of(table.schema), **how)
    batches = list(scoring.scored(table.to_batches(max_chunksize=40)))
    return pa.Table.from_batches(batches, scoring.schema).to_pylist(), scoring


def answered(service: Loaded, endpoint: str, body: Any) -> tuple[int, Any]:
    status, answer = asyncio.run(service.ask(endpoint, body))
    return status, json.loads(answer)


def test_predictions_are_those_of_requests(shared_mesh: Mesh) -> None:
    service = load(shared_mesh.unpacked(shared_mesh.build(PREDICTOR)))
    ids = [f"{n:05}" for n in range(0, 200, 3)] + ["nobody", None]
    spend = [None if n % 2 else Decimal(n) for n in range(len(ids))]
    rows, scoring = scored(
        service, "high-value", pa.table({"customer_id": ids, "label": list(range(len(ids)))})
    )
    assert [row["label"] for row in rows] == list(range(len(ids)))
    for row in rows:
        status, answer = answered(service, "high-value", {"features": {"customer_id": row["customer_id"]}})
        if status != 200:
            assert row["prediction"] is None
            assert row["error"] == f"{answer['errorType']}: {answer['message']}"
            continue
        result = answer["result"]
        assert row["error"] is None
        assert (row["prediction"], row["proba_0"], row["proba_1"]) == (
            result["prediction"],
            *result["probas"].values(),
        )
        assert json.loads(row["details"]) == {"probaPercentile": result["probaPercentile"]}
    assert (scoring.told.rows, scoring.told.failed) == (len(ids), 2)
    assert set(scoring.told.errors) == {"NoMatch", "InvalidFeatures"}
    # What a row has is sent, and wins; a null is a value.
    table = pa.table({"customer_id": ids, "spend": pa.array(spend, pa.decimal128(10, 2))})
    rows, _ = scored(service, "high-value", table, keep=["customer_id"])
    for row, value in zip(rows, spend, strict=True):
        sent = {"customer_id": row["customer_id"], "spend": None if value is None else float(value)}
        status, answer = answered(service, "high-value", {"features": sent})
        assert (row["prediction"] is None) == (status != 200)
        if status == 200:
            assert row["proba_1"] == answer["result"]["probas"]["1"]
    assert set(rows[0]) == {"customer_id", "prediction", "proba_0", "proba_1", "details", "error"}


def test_looked_up_rows_keep_their_types(shared_mesh: Mesh) -> None:
    service = load(shared_mesh.unpacked(shared_mesh.build(LOOKUPS)))
    table = customers()
    rows, scoring = scored(
        service,
        "profile",
        pa.table({"who": [*table.column("customer_id").to_pylist(), "nobody"]}),
        renamed={"customer_id": "who"},
    )
    assert ("spend", "decimal(10,2)") in [(c.name, c.type) for c in scoring.columns]
    for row, expected in zip(rows, table.to_pylist(), strict=False):
        found = {name: value for name, value in row.items() if name in expected}
        found["seen_at"] = found["seen_at"].replace(tzinfo=expected["seen_at"].tzinfo)  # data sets are in UTC
        assert found == expected
        assert (row["status"], row["error"]) == ("PRESENT", None)
    assert (rows[-1]["status"], rows[-1]["error"]) == (
        None,
        'NoMatch: nothing is known of customer_id "nobody"',
    )


def test_functions_queries_and_compositions_answer_a_row_at_a_time(mesh: Mesh, tmp_path: Path) -> None:
    features = mesh.lake.repository("customer-features")
    features.put("main", "stock/part-0000.parquet", parquet(pa.table({"item": ["a", "b"], "left": [2, -1]})))
    features.commit("main", "stock")
    folder = tmp_path / "product"
    (folder / "functions").mkdir(parents=True)
    (folder / "functions/prices.py").write_text(FUNCTION)
    built = mesh.build_service(load_service(MORE, name="s.yaml"), product=Product(folder=folder))
    unpacked = mesh.unpacked(built)
    totals, told = scored(load(unpacked), "total", pa.table({"price": [1.5, 2.0, 3.0], "number": [1, -1, 2]}))
    assert [row["response"] for row in totals] == ['{"total":1.5}', None, '{"total":6.0}']
    assert totals[1]["error"].startswith("FunctionFailed: ")
    assert told.told.errors == {"FunctionFailed": 1}
    rows, _ = scored(
        load(unpacked), "of-city", pa.table({"at_least": [0, -5]}), renamed={"least": "at_least"}
    )
    assert [json.loads(row["rows"]) for row in rows] == [
        [{"item": "a", "left": 2}],
        [{"item": "a", "left": 2}, {"item": "b", "left": -1}],
    ]
    rows, _ = scored(load(unpacked), "both", pa.table({"item": ["a", "z"], "price": [1.25, 1.0]}))
    assert json.loads(rows[0]["response"]) == {"left": 2, "total": 2.5}
    assert rows[1]["error"] == "NoMatch: step 'stock': nothing is known of item \"z\""


def test_what_does_not_fit_is_told_before_anything_is_done(shared_mesh: Mesh) -> None:
    predictor = load(shared_mesh.unpacked(shared_mesh.build(PREDICTOR)))
    lookups = load(shared_mesh.unpacked(shared_mesh.build(LOOKUPS)))
    text = [ColumnType("customer", "string")]
    with pytest.raises(Invalid, match="no column 'customer_id', which endpoint 'profile' needs"):
        Scoring(lookups, "profile", text)
    with pytest.raises(Invalid, match="no column that endpoint 'high-value' takes"):
        Scoring(predictor, "high-value", text)
    with pytest.raises(Invalid, match="takes no 'customer-id'"):
        Scoring(predictor, "high-value", text, {"customer-id": "customer"})
    with pytest.raises(Invalid, match="no column 'custmer'"):
        Scoring(predictor, "high-value", text, {"customer_id": "custmer"})
    clash = [ColumnType(n, "string") for n in ("customer_id", "error", "error_high_value")]
    with pytest.raises(Invalid, match="have a column 'error_high_value' already"):
        Scoring(predictor, "high-value", clash)
    assert [c.name for c in Scoring(predictor, "high-value", clash[:2]).columns][-1] == "error_high_value"


def test_a_lookup_in_several_data_sets_has_the_columns_of_all(shared_mesh: Mesh) -> None:
    text = """
service: joined
endpoints:
- name: it
  type: lookup
  lookups:
  - {product: customer-features, data_set: customer_features, key: customer_id, columns: [spend, seen_at]}
  - product: customer-features
    data_set: customer_features
    key: number
    columns: {is_vip: vip}
    missing_key: default
"""
    service = load(shared_mesh.unpacked(shared_mesh.build(text)))
    rows, scoring = scored(service, "it", pa.table({"customer_id": ["00003", "nobody"], "number": [4, 4]}))
    assert [(c.name, c.type) for c in scoring.columns][2:] == [
        ("spend", "decimal(10,2)"),
        ("seen_at", "timestamp"),
        ("is_vip", "boolean"),
        ("lookups", "string"),
        ("error", "string"),
    ]
    assert (rows[0]["spend"], rows[0]["is_vip"]) == (Decimal("5.25"), True)
    assert [one["status"] for one in json.loads(rows[0]["lookups"])] == ["PRESENT", "PRESENT"]
    assert rows[1]["error"] == 'NoMatch: nothing is known of customer_id "nobody"'
    rows, _ = scored(service, "it", pa.table({"customer_id": ["00003"]}))  # what need not be sent
    assert (rows[0]["is_vip"], rows[0]["error"]) == (None, None)
    with pytest.raises(Invalid, match="no column 'customer_id'"):
        scored(service, "it", pa.table({"number": [4]}))
