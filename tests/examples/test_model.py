"""The example's model and services: better than doing without, and the same answer however the features come."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.examples.conftest import EXAMPLE, Built

from tulle.engine.engine import Relation
from tulle.quality.verdict import evaluate
from tulle.serving.loaded import Loaded
from tulle.spec.load import load_document

ROOT = EXAMPLE.parents[1]
PRODUCT = "high-value-customers"


def ask(service: Loaded, endpoint: str, body: dict[str, Any]) -> Any:
    status, answer = asyncio.run(service.ask(endpoint, body))
    assert status == 200, answer
    return json.loads(answer)


def features_of(built: Built) -> list[str]:
    signature = json.loads((built.folder / PRODUCT / "models/high_value/signature.json").read_text())
    return [feature["name"] for feature in signature["features"]]


def test_the_report_says_what_the_readme_says(built: Built) -> None:
    report = {row["metric"]: row for row in built.table(PRODUCT, "model_report").to_pylist()}
    said = (EXAMPLE / "README.md").read_text()
    words = {
        "roc_auc": "ROC AUC",
        "average_precision": "average precision",
        "precision_at_top_decile": "precision in the top decile",
        "log_loss": "log loss (lower is better)",
        "brier_score_loss": "Brier score (lower is better)",
    }
    assert set(report) == set(words)
    for metric, row in report.items():
        shown = re.search(rf"^\| {re.escape(words[metric])} \| ([\d.]+) \| ([\d.]+)", said, re.MULTILINE)
        assert shown, metric
        assert row["value"] == pytest.approx(float(shown[1]), abs=0.002)
        assert row["baseline"] == pytest.approx(float(shown[2]), abs=0.002)


def test_a_worse_model_fails_its_check(built: Built, tmp_path: Path) -> None:
    check = next(c for c in built.code[PRODUCT].checks if c.name == "model_beats_the_rule")
    rows = [
        {"metric": "roc_auc", "value": 0.8, "baseline": 0.8, "better": "higher"},
        {"metric": "log_loss", "value": 0.4, "baseline": 0.3, "better": "lower"},
        {"metric": "brier_score_loss", "value": 0.1, "baseline": 0.3, "better": "lower"},
    ]
    file = tmp_path / "worse.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    (verdict,) = evaluate(built.engine, [check], {"model_report": Relation("model_report", (str(file),))})
    assert verdict.stops
    assert [row["metric"] for row in verdict.failing_rows] == ["roc_auc", "log_loss"]


def test_the_test_queries_of_all_services_pass(services: dict[str, Loaded]) -> None:
    verdicts = [verdict for service in services.values() for verdict in asyncio.run(service.test())]
    assert len(verdicts) >= 5
    assert [(v.name, v.message) for v in verdicts if not v.passed] == []


@pytest.mark.parametrize("customer", ["00001", "00003", "08830", "19339", "23570"])
def test_a_number_alone_gives_the_answer_of_all_features(
    services: dict[str, Loaded], built: Built, customer: str
) -> None:
    profile = ask(services["customer-features"], "customer-profile", {"data": {"customer_id": customer}})
    features = {name: profile["results"][0]["data"][name] for name in features_of(built)}
    predictor = services["high-value-predictor"]
    by_number = ask(predictor, "high-value", {"features": {"customer_id": customer}})["result"]
    assert ask(predictor, "high-value", {"features": features})["result"] == by_number


def test_the_requests_of_the_demo_are_answered_and_differ(services: dict[str, Loaded]) -> None:
    answers = [
        ask(services[r["service"]], r["endpoint"], json.loads(json.dumps(r["body"])))
        for r in load_document(EXAMPLE / "demo.yaml").value["requests"]
    ]
    first, second = (answer["result"]["probas"]["1"] for answer in answers[:2])
    assert second > 2 * first  # who comes back and spends is likelier to be a high-value customer


def test_the_code_imports_only_what_the_demo_installs() -> None:
    installed = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    homes = {"sklearn": "scikit-learn"}
    for file in EXAMPLE.rglob("*.py"):
        for node in ast.walk(ast.parse(Path(file).read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for package in {name.partition(".")[0] for name in names}:
                assert homes.get(package, package) in installed, f"{file.name} imports {package}"
        assert "pandas" not in file.read_text()  # neither by way of pyarrow
