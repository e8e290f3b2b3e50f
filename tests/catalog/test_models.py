"""The pages of models: metrics, curves, importance, what they learnt from and what answers from them."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from tests.catalog.conftest import Browser, World

from tulle.catalog.model_charts import charts_of
from tulle.control.workspace import Workspace
from tulle.pipeline import experiment
from tulle.pipeline.model_file import save_model

CURVES = {
    "roc": {"x": [0, 0.1, 1], "y": [0, 0.8, 1]},
    "precision_recall": {"x": [0, 0.5, 1], "y": [1, 0.9, 0.5]},
    "calibration": {"x": [0.1, 0.9], "y": [0.2, 0.85]},
    "confusion": {"classes": ["no", "<b>yes</b>"], "counts": [[40, 2], [3, 15]]},
}
DOCUMENT: dict[str, Any] = {
    "model": "spends",
    "product": "people",
    "run": "0123456789abcdef",
    "data_set": "totals",
    "target": "spent",
    "metric": "roc_auc",
    "metrics": {"roc_auc": 0.91},
    "baseline": {"roc_auc": 0.5},
    "rows": {"given": 300, "train": 240, "hold_out": 60},
    "tried": 12,
    "seconds": 61.5,
    "estimator": "LGBMClassifier",
    "leaderboard": [{"kind": "lgbm", "score": 0.9, "tried": 12, "parameters": {"num_leaves": 8}}],
    "importance": [
        {"feature": "total", "importance": 0.2, "spread": 0.01},
        {"feature": "visits", "importance": 0.05, "spread": 0.01},
    ],
    "curves": CURVES,
}


def put_model(world: World | Workspace, product: str = "people", *, trained: bool = True) -> None:
    """Publish a model of a product, as a training does or as a run of the product."""
    rows = np.random.default_rng(0).normal(size=(60, 2))
    estimator = LogisticRegression().fit(rows, rows[:, 0] > 0)
    table = pa.table({"visits": rows[:, 0], "total": rows[:, 1]})
    repository = world.lake.repository(product)
    document = DOCUMENT | {"data_commit": repository.resolve("main")}
    with tempfile.TemporaryDirectory() as folder:
        saved = save_model(
            Path(folder),
            "spends",
            estimator,
            features=["visits", "total"],
            sample=table,
            metrics={"roc_auc": 0.91},
        )
        for name in saved.files:
            repository.put("main", f"models/spends/{name}", saved.folder / name)
    if trained:
        repository.put("main", "models/spends/experiment.json", json.dumps(document).encode())
    commit = repository.commit("main", "a model")
    if trained:
        with world.database.write() as cx:
            experiment.record(cx, document["run"], product, "main", commit.id, document)


def test_a_trained_model_is_shown_with_all_that_is_known(browser: Browser) -> None:
    put_model(browser.world)
    listed = browser.get("/products/people/models")
    assert '<a href="/products/people/models/spends">spends</a>' in listed
    assert "roc_auc 0.91" in listed
    page = browser.get("/products/people/models/spends")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert "roc_auc trained for 0.91 0.5" in words
    assert "240 rows, judged on 60" in words
    assert "num_leaves=8" in words
    assert "tulle model serve people spends" in words
    assert page.index(">total<") < page.index(">visits<")  # what is worth more comes first
    assert page.count('<figure class="card plot">') == 3
    assert "predicted &lt;b&gt;yes&lt;/b&gt;" in page
    assert '/runs/0123456789abcdef"' in page
    assert '<a href="/products/people/models/spends">spends</a>' in browser.get("/products/people")


def test_the_commit_that_a_model_learnt_from_is_shown_and_leads_to_its_data(browser: Browser) -> None:
    learnt_from = browser.world.lake.repository("people").resolve("main")
    put_model(browser.world)
    made = browser.world.lake.repository("people").resolve("main")
    page = browser.get("/products/people/models/spends")
    facts = dict(re.findall(r"<dt>(Published|Learnt from)</dt><dd>(.*?)</dd>", page))
    assert f'href="/lake/people?ref={learnt_from}" title="commit {learnt_from}"' in facts["Learnt from"]
    assert f'href="/lake/people?ref={made}"' in facts["Published"]
    assert learnt_from != made
    assert page.count(f'title="commit {learnt_from}"') == 2  # and in the list of its experiments
    there = browser.get(f"/lake/people?ref={learnt_from}")
    assert "totals" in there  # the data set it was trained on, as it was then
    assert "models/" not in there


def test_what_is_told_is_of_the_experiment_that_made_it(browser: Browser) -> None:
    put_model(browser.world)
    newer = {**DOCUMENT, "data_commit": "f" * 64, "run": "newer", "curves": {}, "tried": 99}
    with browser.world.database.write() as cx:
        experiment.record(cx, "newer", "people", "test", "e" * 64, newer)
    page = browser.get("/products/people/models/spends")
    assert page.count('<figure class="card plot">') == 3
    assert "12 models tried" in page
    assert '<span class="badge ok">published</span>' in page
    assert re.search(r'>newer</a> <span class="soft small">test</span></th>', page)
    repository = browser.world.lake.repository("people")
    repository.put("main", "models/spends/experiment.json", b"[")
    repository.commit("main", "by hand")
    assert "Leaderboard" not in browser.get("/products/people/models/spends")


def test_a_model_that_a_run_saved_and_the_service_that_answers_from_it(browser: Browser) -> None:
    put_model(browser.world, trained=False)
    browser.world.write(
        "products/crm/people/services/guess.yaml",
        "service: guess\nendpoints:\n- {name: spending, type: predict, model: spends}\n",
    )
    page = browser.get("/products/people/models/spends")
    assert '<a href="/services/guess#endpoint-spending">guess / spending</a>' in page
    assert "Leaderboard" not in page
    assert '<figure class="card plot">' not in page
    assert '<a href="/products/people/models/spends">' in browser.get("/services/guess")


def test_what_is_not_there_is_told(browser: Browser) -> None:
    assert "It has none" in browser.get("/products/people/models")
    put_model(browser.world)
    assert "did you mean" in browser.get("/products/people/models/spend", 404).lower()
    browser.get("/products/peoples/models", 404)


def test_curves_become_points_within_the_drawing() -> None:
    residuals = {"edges": [-2.0, 0.0, 2.0], "counts": [3, 0]}
    charts = charts_of({**CURVES, "residuals": residuals, "predicted": {"x": [5, 5], "y": [5, 5]}})
    assert [chart.title for chart in charts] == [
        "ROC",
        "Precision and recall",
        "Calibration",
        "Predicted and true",
        "Residuals",
    ]
    assert "area 0.850" in charts[0].words
    for chart in charts:
        points = [tuple(map(float, one.split(","))) for one in f"{chart.line} {chart.reference}".split()]
        for x, y in [*points, *chart.dots]:
            assert (34 <= x <= 300, 0 <= y <= 196) == (True, True), chart.title
    assert [bar.height for bar in charts[4].bars] == [pytest.approx(188), 0]
    assert charts_of({}) == ()
