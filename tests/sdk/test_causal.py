"""What learners of effects find where the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from tulle.errors import Invalid
from tulle.sdk.causal import TLearner, XLearner

RANDOM = np.random.default_rng(4)
ROWS = RANDOM.normal(size=(2000, 3))
TREATED = (RANDOM.random(2000) < 1 / (1 + np.exp(-ROWS[:, 1]))).astype(
    int
)  # who is treated depends on a feature
EFFECT = 2 + ROWS[:, 0]
OUTCOME = 3 * ROWS[:, 1] + TREATED * EFFECT + 0.1 * RANDOM.normal(size=2000)


@pytest.mark.parametrize("learner", [TLearner(), XLearner(), TLearner(LinearRegression())])
def test_effects_are_found_for_each_row(learner: Any) -> None:
    found = learner.fit(ROWS, TREATED, OUTCOME).effect(ROWS)
    assert np.corrcoef(found, EFFECT)[0, 1] > 0.85
    assert found.mean() == pytest.approx(EFFECT.mean(), abs=0.15)
    naive = OUTCOME[TREATED == 1].mean() - OUTCOME[TREATED == 0].mean()
    assert abs(naive - EFFECT.mean()) > 1  # what one would have said without the features


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(Invalid, match="nothing to compare"):
        TLearner().fit(ROWS, np.ones(2000), OUTCOME)
    with pytest.raises(Invalid, match="was treated"):
        TLearner().fit(ROWS, np.arange(2000) % 3, OUTCOME)
    with pytest.raises(Invalid, match="do not go together"):
        XLearner().fit(ROWS, TREATED[:5], OUTCOME)
