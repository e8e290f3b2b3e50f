"""Learn who becomes a high-value customer, and say honestly how well.

The features are exactly the columns that the services look up, so there is no other way to compute them in real
time. A fixed fifth of the customers is kept from training; every figure below is measured on it, beside what one
gets without any model: rank customers by what they have spent so far, or give everybody the average probability.

Gradient boosting was chosen by cross-validation on the other four fifths; the README of the mesh has the figures.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

inputs = ["customer_features", "customer_labels"]

FEATURES = [
    "recency_days",
    "tenure_days",
    "frequency",
    "monetary_total",
    "monetary_mean",
    "monetary_max",
    "first_amount",
    "cds_total",
    "cds_per_purchase",
    "gap_mean_days",
    "gap_std_days",
    "recent_amount",
    "recent_purchases",
]


def model(run):
    customers = run.sql(
        "SELECT * FROM customer_features JOIN customer_labels USING (customer_id) ORDER BY customer_id"
    )
    train = customers.filter(pc.invert(customers["is_hold_out"]))
    hold_out = customers.filter(customers["is_hold_out"])
    run.log(f"training on {len(train):,} customers, judging on {len(hold_out):,}")

    estimator = GradientBoostingClassifier(
        learning_rate=0.05,
        n_estimators=100,
        max_depth=3,
        min_samples_leaf=50,
        subsample=0.7,
        max_features=0.4,
        random_state=0,
    )
    estimator.fit(matrix(train), train["is_high_value"].to_numpy())

    truth = hold_out["is_high_value"].to_numpy()
    probability = estimator.predict_proba(matrix(hold_out))[:, 1]
    spent_so_far = hold_out["monetary_total"].to_numpy()
    average = np.full(len(truth), pc.mean(train["is_high_value"]).as_py())

    report = [
        measure("roc_auc", roc_auc_score, truth, probability, spent_so_far, "higher"),
        measure("average_precision", average_precision_score, truth, probability, spent_so_far, "higher"),
        measure("precision_at_top_decile", precision_at_top, truth, probability, spent_so_far, "higher"),
        measure("log_loss", log_loss, truth, probability, average, "lower"),
        measure("brier_score_loss", brier_score_loss, truth, probability, average, "lower"),
    ]

    # The gate: a model that is worse than its baseline is refused here, and nothing of this run is published.
    run.save_model(
        "high_value",
        estimator,
        features=FEATURES,
        sample=hold_out.select(FEATURES),
        metrics={row["metric"]: row["value"] for row in report},
        baseline={row["metric"]: row["baseline"] for row in report},
    )
    return pa.Table.from_pylist(report)


MEANING = {
    "roc_auc": "chance that a high-value customer is ranked above another one",
    "average_precision": "precision averaged over all thresholds",
    "precision_at_top_decile": "share of high-value customers among the tenth ranked highest",
    "log_loss": "how much the truth surprises the probabilities",
    "brier_score_loss": "mean squared error of the probabilities",
}


def measure(name, score, truth, probability, without_model, better):
    """One row of the report: the score of the model beside the score one gets without it."""
    return {
        "metric": name,
        "value": float(score(truth, probability)),
        "baseline": float(score(truth, without_model)),
        "better": better,
        "meaning": MEANING[name],
    }


def precision_at_top(truth, score):
    """The share of high-value customers among the tenth with the highest score."""
    count = -(-len(truth) // 10)
    return truth[np.argsort(-score, kind="stable")[:count]].mean()


def matrix(table):
    return np.column_stack([table[name].to_numpy() for name in FEATURES])
