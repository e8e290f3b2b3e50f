"""Models that are not scikit-learn's own behind an endpoint: boosters, clusterings, and classes of a product's own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.cluster import Birch, KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tests.serving.conftest import FEATURES, Mesh, customers, make_mesh

from tulle.errors import Invalid
from tulle.pipeline.convert import columns_of, in_mesh_types
from tulle.pipeline.model import _shared_modules
from tulle.pipeline.model_file import save_model
from tulle.sdk.causal import TLearner
from tulle.serving.endpoint import Headed
from tulle.serving.loaded import Loaded, load
from tulle.serving.openapi_predict import describe_predict
from tulle.serving.predict_apart import PredictApart
from tulle.serving.request import RequestError
from tulle.serving.scoring import Scoring

SERVICE = """
service: kinds
endpoints:
- name: it
  type: predict
  model: high_value
  explanations: {steps: 25}
  pool: {floor: 1, ceil: 1}
"""
RISK = """
import json
from pathlib import Path

from _limits import USUAL
from tulle.sdk.predictor import ClassificationPredictor, RegressionPredictor


class Risk(ClassificationPredictor):
    classes = ("low", "high")

    def __init__(self, folder=None):
        super().__init__(folder)
        self.limit = json.loads((Path(folder) / "limit.json").read_text()) if folder else USUAL

    def predict(self, features):
        import pandas as pd

        assert list(features.columns) == ["recency", "frequency", "spend"]
        high = features["frequency"] > self.limit
        shares = pd.DataFrame({"proba_high": high * 0.8 + 0.1, "proba_low": 0.9 - high * 0.8})
        keys = [{"limit": self.limit} if one else None for one in high]
        return high.map({True: "high", False: "low"}), shares, keys


class Amount(RegressionPredictor):
    takes = "rows"

    def predict(self, features):
        if any(one["frequency"] == 404 for one in features):
            raise KeyError("a secret of the product")
        return [one["frequency"] * 2 for one in features], [{"at": one["recency"]} for one in features]
"""
SHARED = (("_limits", "USUAL = 20\n"), ("_risk", RISK))


def matrix(table: pa.Table) -> np.ndarray[Any, Any]:
    return np.column_stack([np.asarray(table.column(f).to_pylist(), dtype=float) for f in FEATURES])


def served(place: Path, model: Any, text: str = SERVICE, **more: Any) -> Iterator[Path]:
    saved = save_model(
        place / "m", "high_value", model, features=FEATURES, sample=customers(), metrics={}, **more
    )
    mesh = make_mesh(place / "mesh", saved)
    try:
        yield mesh.unpacked(mesh.build(text))
    finally:
        mesh.database.close()


def ask(loaded: Loaded, body: Any, action: str = "predict") -> Any:
    async def work() -> Any:
        did = loaded.endpoints["it"].actions[action]
        content = json.dumps(body).encode()
        try:
            if isinstance(did, Headed):
                answer = (await did.call(content, "r", ())).body
            else:
                given = did(content, "r")
                answer = given if isinstance(given, bytes) else (await given).body
        except RequestError as error:
            return error
        finally:
            loaded.close()
        return json.loads(answer)

    return asyncio.run(work())


def same_in_a_batch(folder: Path) -> None:
    """Each row of a data set is answered as a request with it is."""
    rows = in_mesh_types(customers().select(FEATURES).slice(0, 20), "rows")
    scoring = Scoring(load(folder), "it", columns_of(rows.schema))
    batches = list(scoring.scored(rows.to_batches()))
    items = [{"features": json.loads(json.dumps(row, default=float))} for row in rows.to_pylist()]
    results = ask(load(folder), {"items": items}, "predict-multi")["results"]
    told = pa.Table.from_batches(batches, scoring.schema).to_pylist()
    assert len(told) == len(results) == 20
    for row, result in zip(told, results, strict=True):
        said = {"prediction": row["prediction"], "ignored": False} | json.loads(row["details"] or "{}")
        if "effect" in result:
            said["effect"] = row["prediction"]
        if probas := {name[6:]: value for name, value in row.items() if name.startswith("proba_")}:
            said["probas"] = probas
        assert said == result
        assert row["error"] is None


def test_numbers_and_several_classes_are_the_same_in_a_batch(tmp_path: Path) -> None:
    rows = matrix(customers())
    several = np.array(["low", "middle", "high"])[np.arange(len(rows)) % 3]
    for name, model in {
        "number": LinearRegression().fit(rows, rows[:, 2]),
        "classes": make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, several),
        "two": make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, several == "low"),
    }.items():
        for folder in served(tmp_path / name, model):
            same_in_a_batch(folder)


def test_a_booster_answers_in_the_worker_itself(tmp_path: Path) -> None:
    rows = matrix(customers())
    target = (rows[:, 1] * rows[:, 2] > 1500).astype(int)
    booster = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(rows, target), num_boost_round=5)
    for folder in served(tmp_path, booster, SERVICE + "  threshold: 0.3\n", classes=["no", "yes"]):
        loaded = load(folder)
        assert not isinstance(loaded.endpoints["it"], PredictApart)
        (expected,) = booster.predict(xgb.DMatrix(np.array([[3, 20, 100.0]])))
        answer = ask(loaded, {"features": {"recency": 3, "frequency": 20, "spend": 100.0}})["result"]
        assert answer["probas"]["yes"] == pytest.approx(expected, abs=1e-6)
        assert answer["prediction"] == ("yes" if expected >= 0.3 else "no")
        assert 1 <= answer["probaPercentile"] <= 100


@pytest.mark.parametrize("names", [None, ["new", "loyal", "lost"]])
def test_a_clustering_tells_the_nearest_cluster_and_how_far_each_is(names: Any, tmp_path: Path) -> None:
    rows = matrix(customers())
    estimator = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(rows)
    text = SERVICE + "  overrides: [{name: r, when: {spend: {above: 1000000}}, prediction: %s}]\n"
    text %= "0" if names is None else "lost"
    for folder in served(tmp_path, estimator, text, classes=names):
        loaded = load(folder)
        assert loaded.manifest.models["high_value"]["task"] == "clustering"
        known = names or [0, 1, 2]
        row = {"recency": 3, "frequency": 20, "spend": 100.0}
        given = [[3, 20, 100.0]]
        answer = ask(loaded, {"features": row, "explanations": {"enabled": True}})["result"]
        assert answer["prediction"] == known[estimator.predict(given)[0]]
        assert list(answer["distances"]) == [str(one) for one in known]
        assert list(answer["distances"].values()) == pytest.approx(estimator.transform(given)[0], rel=1e-4)
        assert set(answer["explanations"]) == set(FEATURES)
        # A batch gives what requests get, by their names.
        rows = in_mesh_types(customers().select(FEATURES), "rows")
        scoring = Scoring(load(folder), "it", columns_of(rows.schema))
        (batch,) = scoring.scored(rows.to_batches())
        said = [known[one] for one in estimator.predict(matrix(customers()))]
        assert batch.column("prediction").to_pylist() == said
        many = ask(
            loaded,
            {"items": [{"features": row | {"recency": n}} for n in range(0, 300, 50)]},
            "predict-multi",
        )
        expected = estimator.predict([[n, 20, 100.0] for n in range(0, 300, 50)])
        assert [one["prediction"] for one in many["results"]] == [known[i] for i in expected]
        over = ask(loaded, {"features": row | {"spend": 2e6}})["result"]
        assert over["override"]["appliedRule"] == "r"
        same_in_a_batch(folder)
        properties = json.dumps(json.loads(loaded.openapi)["paths"]["/it/predict"])
        assert '"distances"' in properties


def test_a_clustering_has_as_many_names_as_clusters(tmp_path: Path) -> None:
    estimator = KMeans(3, n_init=1, random_state=0).fit(matrix(customers()))
    with pytest.raises(Invalid, match="3 clusters, `classes` names 2"):
        list(served(tmp_path, estimator, classes=["a", "b"]))


@pytest.fixture
def own() -> Iterator[Any]:
    """The product's own classes, as a run has them."""
    with _shared_modules(SHARED, Path("/product/transform")):
        import _risk  # type: ignore[import-not-found]

        yield _risk
    for name in ("_risk", "_limits"):
        sys.modules.pop(name, None)


def test_an_own_class_says_probabilities_and_keys_of_its_own(own: Any, tmp_path: Path) -> None:
    for folder in served(tmp_path, own.Risk()):
        assert (folder / "models/high_value/code/_limits.py").read_text() == SHARED[0][1]
        loaded = load(folder)
        assert isinstance(loaded.endpoints["it"], PredictApart)
        items = [{"features": {"recency": 1, "frequency": n, "spend": 1}} for n in (25, 3)]
        high, low = ask(loaded, {"items": items}, "predict-multi")["results"]
        assert (high["prediction"], high["probas"]) == ("high", {"low": pytest.approx(0.1), "high": 0.9})
        assert high["customKeys"] == {"limit": 20}
        assert (low["prediction"], "customKeys" in low) == ("low", False)
        assert ask(loaded, items[0])["result"]["customKeys"] == {"limit": 20}
        same_in_a_batch(folder)


def test_a_class_is_made_in_every_process_with_its_files(own: Any, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given/limit.json").write_text("5")
    for folder in served(tmp_path, own.Risk, files=tmp_path / "given"):
        answer = ask(load(folder), {"features": {"recency": 1, "frequency": 6, "spend": 1}})["result"]
        assert answer["customKeys"] == {"limit": 5}


def test_an_own_number_and_what_it_raises(own: Any, tmp_path: Path) -> None:
    for folder in served(tmp_path, own.Amount()):
        loaded = load(folder)
        answer = ask(loaded, {"features": {"recency": 7, "frequency": 21, "spend": 1}})["result"]
        assert answer == {"prediction": 42.0, "ignored": False, "customKeys": {"at": 7}}
        error = ask(loaded, {"features": {"recency": 7, "frequency": 404, "spend": 1}})
        assert (error.status, error.error_type) == (500, "EvaluationFailed")
        assert "secret" not in error.detail
        same_in_a_batch(folder)


def test_what_is_no_model_is_refused(tmp_path: Path, shared_mesh: Mesh) -> None:
    with pytest.raises(Invalid, match="has no predict"):
        save_model(tmp_path, "m", object(), features=FEATURES, sample=customers(), metrics={})
    with pytest.raises(Invalid, match="activation"):
        save_model(
            tmp_path, "m", KMeans(), features=FEATURES, sample=customers(), metrics={}, activation="softmax"
        )


def test_the_effect_of_a_treatment_is_asked_for_as_api_nodes_are(tmp_path: Path) -> None:
    rows = matrix(customers())
    treated = np.arange(len(rows)) % 2
    learner = TLearner(LinearRegression()).fit(rows, treated, rows[:, 2] + treated * (rows[:, 0] / 10 + 1))
    for folder in served(tmp_path, learner):
        loaded = load(folder)
        assert loaded.manifest.models["high_value"]["task"] == "effect"
        row = {"recency": 100, "frequency": 5, "spend": 3}
        answer = ask(loaded, {"features": row}, "predict-effect")["result"]
        assert answer["effect"] == answer["prediction"] == pytest.approx(11)
        assert 1 <= answer["effectPercentile"] <= 100
        items = [{"features": row | {"recency": n}} for n in (0, 200)]
        many = ask(loaded, {"items": items}, "predict-effect-multi")["results"]
        assert [one["effect"] for one in many] == pytest.approx([1, 21])
        same_in_a_batch(folder)
        paths = json.loads(loaded.openapi)["paths"]
        assert {"/it/predict-effect", "/it/predict-effect-multi"} < set(paths)
        renamed = replace(loaded.entries["it"], name="predict-it")  # what is in a name is no action
        assert {
            path: item["post"]["operationId"] for path, item in describe_predict(renamed, folder).items()
        } == {
            f"/predict-it/{action}": f"predict-it-{action}"
            for action in ("predict", "predict-multi", "predict-effect", "predict-effect-multi")
        }
        refused = ask(loaded, {"features": row | {"treated": 1}}, "predict-effect")
        assert (refused.status, refused.error_type) == (400, "InvalidFeatures")


def test_a_category_that_nobody_trained_with_fails_its_own_row_only(tmp_path: Path) -> None:
    rows = matrix(customers())
    encoder = make_column_transformer((OneHotEncoder(), [1]), remainder="passthrough")
    estimator = make_pipeline(encoder, LogisticRegression(max_iter=200)).fit(rows, rows[:, 2] > 100)
    for folder in served(tmp_path, estimator):
        known = {"features": {"recency": 3, "frequency": 20, "spend": 100.0}}
        unknown = {"features": {"recency": 3, "frequency": 99, "spend": 100.0}}
        assert not isinstance(load(folder).endpoints["it"], PredictApart)
        refused = ask(load(folder), unknown)
        assert (refused.status, refused.error_type) == (422, "NoPrediction")
        refused = ask(load(folder), unknown | {"explanations": {"enabled": True}})
        assert (refused.status, refused.error_type) == (422, "NoPrediction")
        answer = ask(load(folder), known)["result"]
        both = ask(load(folder), {"items": [known, unknown, known]}, "predict-multi")["results"]
        assert both[0] == both[2] == answer
        assert both[1]["ignoreReason"] == "NoPrediction"


@pytest.mark.parametrize("estimator", [Birch(n_clusters=3), GaussianMixture(3, random_state=0)])
def test_a_clustering_without_distances_tells_the_cluster(estimator: Any, tmp_path: Path) -> None:
    rows = matrix(customers())
    for folder in served(tmp_path, estimator.fit(rows), classes=["a", "b", "c"]):
        loaded = load(folder)
        assert loaded.manifest.models["high_value"]["task"] == "clustering"
        (expected,) = estimator.predict([[3, 20, 100.0]])
        answer = ask(loaded, {"features": {"recency": 3, "frequency": 20, "spend": 100.0}})["result"]
        assert answer == {"prediction": "abc"[expected], "ignored": False}


class Orphans(KMeans):
    """One that leaves a row out."""

    def predict(self, rows: Any) -> Any:
        return np.where(rows[:, 2] > 100, super().predict(rows), -1)


def test_what_cannot_be_a_model_of_one_target_is_refused(tmp_path: Path) -> None:
    rows = matrix(customers())
    two = RandomForestRegressor(2).fit(rows, rows[:, :2])
    for model, message in ((two, "gives 2 answers for each row"), (Orphans(2).fit(rows), "the cluster -1")):
        with pytest.raises(Invalid, match=message):
            save_model(tmp_path, "m", model, features=FEATURES, sample=customers(), metrics={})
