"""What is served: synthetic customers, a model trained on them, and wide rows with sparse keys.

The model is a histogram gradient boosting of 100 trees with 31 leaves over 11 features (9 numbers, 2 categories coded
as whole numbers), trained on 40,000 customers. Peers get the same estimator, and the same ONNX form of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before scikit-learn is there

import joblib
import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier

from tulle.pipeline.model_file import ModelFile, save_model

CUSTOMERS = 40_000
RECORDS = 500  # different requests for predictions
KEYS = 5_000  # and for rows
NAMES = (
    "recency", "frequency", "tenure", "spend", "spend_mean", "spend_largest", "gap_mean", "gap_largest",
    "discount_share", "channel", "region",
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A saved model, the customers it knows, and what it says of the first of them."""

    saved: ModelFile
    table: pa.Table  # customer_id and the features
    probabilities: Sequence[float]  # of the second class, for the records

    @property
    def records(self) -> list[dict[str, Any]]:
        """The features of the first customers, as a request has them."""
        return self.table.select(NAMES).slice(0, RECORDS).to_pylist()

    @property
    def ids(self) -> list[str]:
        """The same customers by their ids."""
        return self.table.column("customer_id").slice(0, RECORDS).to_pylist()

    @property
    def joblib(self) -> Path:
        """The estimator."""
        return self.saved.folder / "model.joblib"

    @property
    def onnx(self) -> Path:
        """Its ONNX form: input `features` (float), outputs `label` and `probabilities`."""
        return self.saved.folder / "model.onnx"


def customers() -> pa.Table:
    """One row a customer."""
    random = np.random.default_rng(1997)
    count = CUSTOMERS
    tenure = random.integers(30, 720, count)
    frequency = random.geometric(0.35, count)
    mean = random.lognormal(3.2, 0.6, count)
    gap = tenure / (frequency + 1)
    columns = {
        "recency": (tenure * random.random(count)).astype(int).astype(float),
        "frequency": frequency.astype(float),
        "tenure": tenure.astype(float),
        "spend": np.round(mean * frequency, 2),
        "spend_mean": np.round(mean, 2),
        "spend_largest": np.round(mean * (1 + random.random(count)), 2),
        "gap_mean": np.round(gap, 3),
        "gap_largest": np.round(gap * (1 + random.random(count)), 3),
        "discount_share": np.round(random.random(count) ** 2, 4),
        "channel": random.integers(0, 4, count),
        "region": random.integers(0, 12, count),
    }
    return pa.table({"customer_id": [f"C{number:06}" for number in range(count)], **columns})


def train(folder: Path) -> Trained:
    """Train and save the model in `folder`; it has an ONNX form, or the benchmark means nothing."""
    table = customers()
    matrix = np.column_stack([table.column(name).to_numpy() for name in NAMES])
    random = np.random.default_rng(2026)
    drive = matrix[:, 1] * 0.4 - matrix[:, 0] / 90 + matrix[:, 4] / 40 + (matrix[:, 10] % 3) * 0.4
    target = (drive + random.normal(0, 1, CUSTOMERS) > np.median(drive)).astype(int)
    estimator = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=31, early_stopping=False, random_state=0
    ).fit(matrix, target)
    saved = save_model(folder, "will_return", estimator, features=list(NAMES), sample=table, metrics={})
    if saved.signature.conversion.form != "onnx":
        raise SystemExit(f"the model has no ONNX form: {saved.signature.conversion.reason}")
    said = joblib.load(folder / "model.joblib").predict_proba(matrix[:RECORDS])[:, 1]
    return Trained(saved, table, said.tolist())


def features_bodies(trained: Trained) -> list[str]:
    """Requests with all features, as our endpoint takes them."""
    return [json.dumps({"features": record}) for record in trained.records]


def wide_rows(count: int) -> pa.Table:
    """`count` rows of ten columns under sparse 40-bit keys."""
    random = np.random.default_rng(40)
    step = (1 << 40) // count
    keys = np.arange(count, dtype=np.int64) * step + random.integers(0, step, count)
    names = pa.array(["north", "south", "east", "west"])
    codes = pa.array([f"code-{number:04}" for number in range(1000)])
    return pa.table(
        {
            "key": keys,
            **{f"f{n}": np.round(random.normal(100, 20, count), 4) for n in range(4)},
            **{f"i{n}": random.integers(0, 100_000, count) for n in range(3)},
            "s0": names.take(pa.array(random.integers(0, 4, count))),
            "s1": codes.take(pa.array(random.integers(0, 1000, count))),
            "b0": random.random(count) < 0.5,
        }
    )
