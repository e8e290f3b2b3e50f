"""Forecasters that are ready to be used, on series whose future is known."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from tulle.errors import Invalid
from tulle.sdk.forecast import Lags, Smoothing

DAY = dt.date(2024, 1, 1)


def series(count: int, level: float = 50.0) -> list[dict[str, Any]]:
    """Days whose sales go up and down with the week, and more on offer."""
    noise = np.random.default_rng(int(level)).normal(size=count)
    return [
        {
            "day": DAY + dt.timedelta(days=i),
            "offer": int(i % 5 == 0),
            "sold": level + 0.1 * i + 10 * np.sin(2 * np.pi * i / 7) + 20 * (i % 5 == 0) + noise[i],
        }
        for i in range(count)
    ]


def test_smoothing_goes_on_with_trend_and_season() -> None:
    values = [
        {"day": DAY + dt.timedelta(days=i), "sold": 10 + 0.2 * i + 5 * np.sin(2 * np.pi * i / 7)}
        for i in range(84)
    ]
    model = Smoothing(season=7, quantiles=(0.1, 0.9))
    numbers, spread = model.forecast(values[:70], values[70:], "sold")
    assert np.abs(numbers - [row["sold"] for row in values[70:]]).max() < 2
    assert (spread[:, 0] <= numbers).all()
    assert (numbers <= spread[:, 1]).all()
    flat, _ = Smoothing().forecast([{"sold": 3.0}] * 12, [{}] * 2, "sold")
    assert flat.tolist() == [3.0, 3.0]


def test_lags_learn_from_all_series_and_from_what_is_known_ahead() -> None:
    model = Lags(LinearRegression(), lags=(7, 35), externals=["offer"]).fit(
        [series(200), series(200, 80.0)], "sold"
    )
    whole = series(214)
    numbers, spread = model.forecast(whole[:200], whole[200:], "sold")
    truth = np.array([row["sold"] for row in whole[200:]])
    naive = np.abs(truth - whole[199]["sold"]).mean()
    assert np.abs(numbers - truth).mean() < naive / 2
    assert spread.shape == (14, 3)
    assert (np.diff(spread, axis=1) >= 0).all()


def test_what_cannot_forecast_is_told() -> None:
    with pytest.raises(Invalid, match="repeats nothing"):
        Smoothing(season=1)
    with pytest.raises(Invalid, match="between 0 and 1"):
        Lags(quantiles=(0.9, 0.1))
    with pytest.raises(Invalid, match="too few"):
        Lags(lags=(30,)).fit([series(32)], "sold")
    with pytest.raises(Invalid, match="from 1 on"):
        Lags(lags=())
