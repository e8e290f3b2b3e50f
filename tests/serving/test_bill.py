"""The bill of materials: all a package consists of, in the form that CycloneDX publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cyclonedx.schema
import jsonschema_rs
import pytest
from cyclonedx.model.bom import Bom
from tests.serving.conftest import PREDICTOR, Mesh
from tests.serving.test_function import Product

from tulle.serving.bill import bill_of_materials
from tulle.serving.manifest import BILL, MANIFEST, Manifest, read_manifest

PUBLISHED = Path(cyclonedx.schema.__file__).parent / "_res"
WITH_CODE = """
service: priced
endpoints:
- {name: price, type: function, file: price.py}
- {name: high-value, type: predict, model: high_value,
   enrich: [{product: customer-features, data_set: customer_features, key: customer_id}]}
- name: spenders
  type: query
  sql: SELECT customer_id FROM customer_features
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
"""


@pytest.fixture(scope="module")
def published() -> jsonschema_rs.Draft7Validator:
    """The schema of CycloneDX 1.6 as it is published, with those it refers to."""

    def beside(uri: str) -> Any:
        return json.loads((PUBLISHED / uri.rpartition("/")[2]).read_text())

    schema = beside("bom-1.6.SNAPSHOT.schema.json")
    return jsonschema_rs.Draft7Validator(schema, retriever=beside, validate_formats=True)


def bill_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / BILL).read_bytes()))


def all_of(components: Any) -> Iterator[Mapping[str, Any]]:
    for one in components:
        yield one
        yield from all_of(one.get("components", ()))


def check(bill: dict[str, Any], published: jsonschema_rs.Draft7Validator) -> None:
    """As the schema wants it, read by others, and every reference leads somewhere."""
    assert [error.message for error in published.iter_errors(bill)] == []
    Bom.from_json(bill).validate()  # type: ignore[attr-defined]  which finds references that lead nowhere
    known = {one["bom-ref"] for one in all_of([bill["metadata"]["component"], *bill["components"]])}
    named = [one["ref"] for one in bill["dependencies"]]
    assert len(named) == len(set(named))
    assert {ref for one in bill["dependencies"] for ref in (one["ref"], *one["dependsOn"])} <= known


def test_it_tells_of_all_that_a_package_consists_of(
    mesh: Mesh, published: jsonschema_rs.Draft7Validator
) -> None:
    folder = mesh.unpacked(mesh.build(PREDICTOR))
    bill, manifest = bill_of(folder), read_manifest(folder / MANIFEST)
    check(bill, published)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["bom-ref"] == "high-value-predictor@v1"
    by_name = {one["name"]: one for one in all_of(bill["components"])}
    assert by_name["numpy"]["purl"] == f"pkg:pypi/numpy@{by_name['numpy']['version']}"
    assert by_name["scikit-learn"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert by_name["python"]["type"] == "platform"
    assert by_name["customer-features"]["version"] == manifest.commits["customer-features"]
    model = by_name["high_value"]
    assert (model["type"], model["modelCard"]["modelParameters"]["task"]) == (
        "machine-learning-model",
        "binary",
    )
    assert [one["name"] for one in model["components"]] == [
        "models/high_value/model.onnx",
        "models/high_value/signature.json",
    ]
    (index,) = [one for name, one in by_name.items() if name.startswith("indexes/")]
    assert (index["type"], index["data"][0]["type"]) == ("data", "dataset")
    for name, file in manifest.files.items():
        if name != BILL:
            assert by_name[name]["hashes"] == [{"alg": "BLAKE3", "content": file.blake3}]
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert {"model:high_value", by_name["tulle"]["purl"]} <= set(needs["high-value-predictor@v1"])
    assert by_name["onnxruntime"]["purl"] in needs["model:high_value"]
    assert by_name["numpy"]["purl"] in needs[by_name["onnxruntime"]["purl"]]


def test_code_of_the_product_and_what_it_imports_is_told(
    mesh: Mesh, tmp_path: Path, published: jsonschema_rs.Draft7Validator
) -> None:
    folder = tmp_path / "product"
    (folder / "functions").mkdir(parents=True)
    (folder / "functions/price.py").write_text(
        "import json\nimport polars as pl\nfrom tulle.sdk.function import ApiError\nimport rates\nimport no_such_thing\n"
        "def price(): return 1\n"
    )
    (folder / "functions/rates.py").write_text("from yaml import safe_load\n")
    (folder / "functions/requirements.txt").write_text("# what it needs besides\nredis>=5\n-r other.txt\n")
    built = mesh.build(WITH_CODE, product=Product(folder))
    bill = bill_of(mesh.unpacked(built))
    check(bill, published)
    by_name = {one["name"]: one for one in all_of(bill["components"])}
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    wanted = ["no-such-thing", "polars", "pyyaml", "redis"]
    assert needs["functions"] == sorted(by_name[name]["purl"] for name in wanted)
    assert by_name["polars-runtime-32"]["purl"] in needs[by_name["polars"]["purl"]]
    assert "version" not in by_name["no-such-thing"]
    assert {"name": "tulle:installed", "value": "false"} in by_name["no-such-thing"]["properties"]
    assert {one["name"] for one in by_name["functions"]["components"]} == {
        "functions/price.py",
        "functions/rates.py",
        "functions/requirements.txt",
    }
    assert any(name.startswith("data/") and one["type"] == "data" for name, one in by_name.items())
    # equal content is the same package, whatever is installed; its bill is written again byte for byte
    assert mesh.build(WITH_CODE, product=Product(folder)) == built
    assert replace(built.manifest, software={}).content_digest() == built.digest


def test_what_is_known_of_a_distribution_is_told(published: jsonschema_rs.Draft7Validator) -> None:
    manifest = Manifest(
        service="abc",
        version="v1",
        product="p",
        digest="00",
        created="2026-01-31T12:00:00+00:00",
        ref="main",
        commits={},
        code_version="",
        endpoints=(),
        files={},
        openapi="",
        software={
            "one": {
                "version": "1.0",
                "sha256": "ab" * 32,
                "record": "cd" * 32,
                "licence": "A licence of ours",
            },
            "python": {"version": "3.11.7", "expression": "PSF-2.0"},
        },
    )
    bill = json.loads(bill_of_materials(manifest))
    check(bill, published)
    one = bill["components"][0]
    assert one["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert one["licenses"] == [{"license": {"name": "A licence of ours"}}]
    assert one["properties"] == [{"name": "tulle:record:sha256", "value": "cd" * 32}]
    bill["components"][0]["type"] = "thing"  # which the schema does not know
    assert [error.message for error in published.iter_errors(bill)]
