"""Learn who becomes a high-value customer, and say honestly how well.

The features are exactly the columns that the services look up, so there is no other way to compute them in real
time. A fixed fifth of the customers is kept from training; every figure below is measured on it, beside the rule a
person would use without any model: the more a customer has spent so far, the better.
"""

import pyarrow as pa
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
    features = run.read("customer_features").to_pandas()
    labels = run.read("customer_labels").to_pandas()
    table = features.merge(labels, on="customer_id").sort_values("customer_id")
    train, hold_out = table[~table.is_hold_out], table[table.is_hold_out]

    estimator = GradientBoostingClassifier(
        learning_rate=0.05, n_estimators=100, max_depth=3, subsample=0.7, min_samples_leaf=50, random_state=0
    )
    run.log(f"training on {len(train):,} customers, judging on {len(hold_out):,}")
    estimator.fit(train[FEATURES].to_numpy(), train.is_high_value.to_numpy())

    truth = hold_out.is_high_value.to_numpy()
    probability = estimator.predict_proba(hold_out[FEATURES].to_numpy())[:, 1]
    spent_so_far = hold_out.monetary_total.to_numpy()
    share = float(train.is_high_value.mean())

    report = [
        (
            "roc_auc",
            roc_auc_score(truth, probability),
            roc_auc_score(truth, spent_so_far),
            "chance that a high-value customer is ranked above another one",
        ),
        (
            "average_precision",
            average_precision_score(truth, probability),
            average_precision_score(truth, spent_so_far),
            "precision averaged over all thresholds",
        ),
        (
            "precision_at_top_decile",
            precision_at_top(truth, probability),
            precision_at_top(truth, spent_so_far),
            "share of high-value customers among the tenth ranked highest",
        ),
        (
            "log_loss",
            log_loss(truth, probability),
            log_loss(truth, [share] * len(truth)),
            "how surprised the probabilities are by the truth (lower is better; the rule: always the average)",
        ),
        (
            "brier_score",
            brier_score_loss(truth, probability),
            brier_score_loss(truth, [share] * len(truth)),
            "mean squared error of the probabilities (lower is better; the rule: always the average)",
        ),
    ]
    for name, value, _baseline, _meaning in report:
        run.metric(name, round(value, 4))

    # The gate: a model that ranks worse than the rule is refused here, and nothing of this run is published.
    run.save_model(
        "high_value",
        estimator,
        features=FEATURES,
        sample=hold_out[FEATURES],
        metrics={name: value for name, value, _baseline, _meaning in report},
        baseline={name: baseline for name, _value, baseline, _meaning in report},
    )
    columns = list(zip(*report, strict=True))
    return pa.table(dict(zip(["metric", "value", "baseline", "meaning"], map(list, columns), strict=True)))


def precision_at_top(truth, score):
    """The share of positives among the tenth with the highest score."""
    count = -(-len(truth) // 10)
    return float(truth[(-score).argsort(kind="stable")[:count]].mean())
