"""Learning what a treatment changes for whom, from rows some of which were treated: T- and X-learners.

    from tulle.sdk.causal import XLearner

    learner = XLearner().fit(features, treated, spent)      # a matrix, 0 or 1 a row, the outcome
    learner.effect(features)                                # what the treatment adds to each row's outcome

They are those of Künzel and others, "Metalearners for estimating heterogeneous treatment effects", PNAS 116 (2019).
That treated and untreated rows differ by their features and by chance alone is for who uses them to know. Any regressor
and classifier of scikit-learn's kind may be inside.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from tulle.errors import Invalid, Unavailable


class TLearner:
    """A model of the outcome with treatment, and one without: the effect is their difference."""

    def __init__(self, outcome: Any = None) -> None:
        """`outcome`: a regressor; gradient boosting without one."""
        self.outcome = outcome

    def fit(self, features: Any, treated: Any, outcome: Any) -> TLearner:
        """Learn from rows; Invalid where there are none of one kind."""
        rows, chosen, target = _checked(features, treated, outcome)
        self.n_features_in_ = rows.shape[1]
        self._with = _fresh(self.outcome).fit(rows[chosen], target[chosen])
        self._without = _fresh(self.outcome).fit(rows[~chosen], target[~chosen])
        return self

    def effect(self, features: Any) -> Any:
        """What the treatment adds to the outcome of each row."""
        rows = np.asarray(features, dtype=np.float64)
        return self._with.predict(rows) - self._without.predict(rows)


class XLearner(TLearner):
    """Learns the effects that a T-learner imputes to each row, and weighs both kinds by how probable treatment is.

    Better than a T-learner where far fewer rows were treated than not, or the other way round.
    """

    def __init__(self, outcome: Any = None, effect: Any = None, propensity: Any = None) -> None:
        """`outcome` and `effect`: regressors, `propensity`: a classifier; gradient boosting without them."""
        super().__init__(outcome)
        self.effect_model = effect
        self.propensity = propensity

    def fit(self, features: Any, treated: Any, outcome: Any) -> XLearner:
        """Learn from rows; Invalid where there are none of one kind."""
        super().fit(features, treated, outcome)
        rows, chosen, target = _checked(features, treated, outcome)
        gained = target[chosen] - self._without.predict(rows[chosen])
        missed = self._with.predict(rows[~chosen]) - target[~chosen]
        self._of_treated = _fresh(self.effect_model).fit(rows[chosen], gained)
        self._of_others = _fresh(self.effect_model).fit(rows[~chosen], missed)
        classifier = self.propensity
        if classifier is None:
            classifier = _ensemble().HistGradientBoostingClassifier(random_state=0)
        self._share = classifier.fit(rows, chosen)
        return self

    def effect(self, features: Any) -> Any:
        """What the treatment adds to the outcome of each row."""
        rows = np.asarray(features, dtype=np.float64)
        share = self._share.predict_proba(rows)[:, 1]
        return share * self._of_others.predict(rows) + (1 - share) * self._of_treated.predict(rows)


def _checked(features: Any, treated: Any, outcome: Any) -> tuple[Any, Any, Any]:
    rows = np.asarray(features, dtype=np.float64)
    chosen = np.asarray(treated).reshape(-1)
    target = np.asarray(outcome, dtype=np.float64).reshape(-1)
    if rows.ndim != 2 or not len(rows) == len(chosen) == len(target):
        raise Invalid(
            f"{len(rows)} rows, {len(chosen)} treatments and {len(target)} outcomes do not go together"
        )
    if not set(np.unique(chosen).tolist()) <= {0, 1}:
        raise Invalid("a row was treated (1) or not (0)", hint="compare several treatments one by one")
    chosen = chosen.astype(bool)
    if chosen.all() or not chosen.any():
        raise Invalid("all rows were treated, or none: there is nothing to compare")
    return rows, chosen, target


def _fresh(model: Any) -> Any:
    if model is None:
        return _ensemble().HistGradientBoostingRegressor(random_state=0)
    return importlib.import_module("sklearn.base").clone(model)


def _ensemble() -> Any:
    try:
        return importlib.import_module("sklearn.ensemble")
    except ImportError as exc:
        raise Unavailable(
            "scikit-learn is needed and is not installed", hint="pip install 'tulle[ml]'"
        ) from exc
