"""Forecasting series: what a class of one's own that does is like, and two that are ready to be used.

    from tulle.sdk.forecast import Smoothing

    run.save_forecaster(
        "demand", Smoothing(season=7), sample=table, time="day", target="sold", identifiers=["shop"],
        horizon=14, step="1 day", metrics={"mae": 3.1},
    )

`Smoothing` is exponential smoothing by statsmodels, fitted to what each request sends, so it never grows old. `Lags`
learns one regressor from all series, on what was some steps before; a request only needs as much past as its longest
lag. Numbers in, numbers out: knows nothing of services.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tulle.errors import Invalid, Unavailable

Rows = Sequence[Mapping[str, Any]]


class Forecaster:
    """Says how a series goes on."""

    takes: Literal["rows", "frame"] = "rows"  # lists of dicts, or DataFrames
    quantiles: Sequence[float] = ()  # those it gives beside its forecast
    least = 2  # rows of the past that it needs
    even = False  # whether it counts steps: then a past with gaps is filled before it is given it

    def forecast(self, past: Any, future: Any, target: str) -> Any:
        """How the series of `past` goes on at the times of `future`, both in the order of time.

        The numbers, one for each row of `future`; or (numbers, matrix of quantiles, shape (rows, quantiles)).
        `past` has the column `target`, `future` has not; both have the time and the externals.
        """
        raise NotImplementedError


class Smoothing(Forecaster):
    """Exponential smoothing with a damped trend, and a season where one is given; needs statsmodels."""

    even = True

    def __init__(
        self, season: int | None = None, *, trend: bool = True, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
    ) -> None:
        """`season`: how many steps it takes until things repeat, 7 for days of the week."""
        if season is not None and season < 2:
            raise Invalid(f"a season of {season} steps repeats nothing")
        self.season, self.trend = season, trend
        self.quantiles = _checked(quantiles)
        self.least = 2 * season + 2 if season else 10

    def forecast(self, past: Any, future: Any, target: str) -> Any:
        """The numbers and their quantiles."""
        ets, pandas = _needed("statsmodels.tsa.exponential_smoothing.ets"), _needed("pandas")
        values = pandas.Series([float(row[target]) for row in past])
        ahead = len(future)
        if values.nunique() == 1:  # nothing to be fitted
            return np.full(ahead, values[0]), np.full((ahead, len(self.quantiles)), values[0])
        model = ets.ETSModel(
            values,
            trend="add" if self.trend else None,
            damped_trend=self.trend,
            seasonal="add" if self.season else None,
            seasonal_periods=self.season,
        ).fit(disp=False)
        predicted = model.get_prediction(start=len(values), end=len(values) + ahead - 1)
        mean = np.asarray(predicted.predicted_mean)
        spread = np.sqrt(np.asarray(predicted.forecast_variance))
        normal = _needed("scipy.stats").norm
        return mean, mean[:, None] + spread[:, None] * normal.ppf(self.quantiles)[None, :]


class Lags(Forecaster):
    """A regressor on what was some steps before, and on externals: one model for all series."""

    even = True

    def __init__(
        self,
        regressor: Any = None,
        *,
        lags: Sequence[int] = (1, 7),
        externals: Sequence[str] = (),
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    ) -> None:
        """`regressor`: any of scikit-learn's kind; gradient boosting without one. `externals`: numbers known ahead."""
        if not lags or min(lags) < 1:
            raise Invalid(f"lags are steps back from 1 on, not {list(lags)}")
        self.regressor, self.lags, self.externals = regressor, tuple(sorted(lags)), tuple(externals)
        self.quantiles = _checked(quantiles)
        self.least = max(self.lags)

    def fit(self, series: Sequence[Rows], target: str) -> Lags:
        """Learn from series, each in the order of time and without gaps. Invalid where all are too short."""
        rows, wanted = [], []
        for one in series:
            values = [float(row[target]) for row in one]
            for place in range(self.least, len(values)):
                rows.append(self._row(values[:place], one[place]))
                wanted.append(values[place])
        if len(rows) < 10:
            raise Invalid(f"{len(rows)} steps have {self.least} before them, too few to learn from")
        model = self.regressor
        if model is None:
            model = _needed("sklearn.ensemble").HistGradientBoostingRegressor(random_state=0)
        # The spread is that of the last fifth, which a model of the steps before it has not seen.
        some = max(5, len(rows) * 4 // 5)
        clone = _needed("sklearn.base").clone
        matrix, truth = np.asarray(rows), np.asarray(wanted)
        rest = truth[some:] - clone(model).fit(matrix[:some], truth[:some]).predict(matrix[some:])
        self._residuals = np.quantile(rest, self.quantiles) if len(rest) else np.zeros(len(self.quantiles))
        self._model = clone(model).fit(matrix, truth)
        return self

    def forecast(self, past: Any, future: Any, target: str) -> Any:
        """The numbers, each from those before it, and their quantiles, which grow apart with the root of the steps."""
        values = [float(row[target]) for row in past]
        found = []
        for row in future:
            value = float(self._model.predict(np.asarray([self._row(values, row)]))[0])
            values.append(value)
            found.append(value)
        wider = np.sqrt(1 + np.arange(len(found)) / self.least)
        return np.asarray(found), np.asarray(found)[:, None] + wider[:, None] * self._residuals[None, :]

    def _row(self, before: Sequence[float], row: Mapping[str, Any]) -> list[float]:
        more = [float("nan") if row[name] is None else float(row[name]) for name in self.externals]
        return [before[-lag] for lag in self.lags] + more


def _checked(quantiles: Sequence[float]) -> tuple[float, ...]:
    if list(quantiles) != sorted(set(quantiles)) or not all(0 < q < 1 for q in quantiles):
        raise Invalid(f"quantiles are between 0 and 1 and grow, not {list(quantiles)}")
    return tuple(quantiles)


def _needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        package = module.partition(".")[0]
        raise Unavailable(
            f"the package '{package}' is needed to forecast and is not installed",
            hint="pip install 'tulle[forecast]'",
        ) from exc
