"""Forecasts over the wire of API nodes: what is sent, what comes back, and what fails alone."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dataikuapi
import numpy as np
import pyarrow as pa
import pytest
from dataikuapi.utils import DataikuException
from sklearn.linear_model import LinearRegression
from tests.serving.conftest import FEATURES, customers, make_mesh
from tests.serving.test_worker import running

from tulle.errors import Invalid
from tulle.pipeline.convert import columns_of, in_mesh_types
from tulle.pipeline.model import _shared_modules
from tulle.pipeline.model_ahead import evenly, next_time, times_ahead
from tulle.pipeline.model_file import save_model
from tulle.pipeline.model_series import save_forecaster
from tulle.pipeline.model_signature import Series
from tulle.sdk.causal import TLearner
from tulle.sdk.forecast import Forecaster, Lags
from tulle.serving.loaded import Loaded, load
from tulle.serving.request import RequestError
from tulle.serving.scoring_series import SeriesScoring

SERVICE = """
service: shops
endpoints:
- name: demand
  type: forecast
  model: high_value
  pool: {floor: 1, ceil: 1}
  test_queries:
  - {name: too short, rows: [{day: '2024-01-01', shop: A, sold: 1}], expect: {error: NotEnoughPast}}
"""
HORIZON = 4
DAY = dt.date(2024, 1, 1)


def table(days: int = 60) -> pa.Table:
    """Two shops, a row a day: A repeats every week, B is what A is, doubled; one more on offer."""
    rows = [
        {
            "day": DAY + dt.timedelta(days=i),
            "shop": shop,
            "sold": factor * (10.0 + i % 7) + offer(i),
            "offer": offer(i),
        }
        for shop, factor in (("A", 1), ("B", 2))
        for i in range(days)
    ]
    return pa.Table.from_pylist(rows)


def offer(i: int) -> int:
    return int(i % 5 == 0)


def rows_of(shop: str = "A") -> list[dict[str, Any]]:
    return [row for row in table().to_pylist() if row["shop"] == shop]


def save(folder: Path, model: Any, **more: Any) -> Any:
    options: dict[str, Any] = {
        "sample": table(),
        "time": "day",
        "target": "sold",
        "identifiers": ["shop"],
        "horizon": HORIZON,
        "step": "1 day",
        "metrics": {"mae": 1.0},
    }
    return save_forecaster(folder, "high_value", model, **(options | more))


def lags(externals: bool = False) -> Lags:
    names = ["offer"] if externals else []
    series = [rows_of("A"), rows_of("B")]
    return Lags(LinearRegression(), lags=(7,), externals=names).fit(series, "sold")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An unpacked package with a model that needs externals."""
    place = tmp_path_factory.mktemp("forecast")
    saved = save(place / "m", lags(externals=True), externals=["offer"])
    mesh = make_mesh(place / "mesh", saved)
    yield mesh.unpacked(mesh.build(SERVICE))
    mesh.database.close()


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "day": row["day"].isoformat() if "day" in row else None} for row in rows]


def past_and_future(shop: str) -> list[dict[str, Any]]:
    rows = plain(rows_of(shop))
    return [*rows[:-HORIZON], *({**row, "sold": None} for row in rows[-HORIZON:])]


def ask(loaded: Loaded, items: Any, **more: Any) -> Any:
    async def work() -> Any:
        action = loaded.endpoints["demand"].actions["forecast"]
        try:
            answer = await action.call(json.dumps({"items": items, **more}).encode(), "r", ())  # type: ignore[union-attr]
        except RequestError as error:
            return error
        finally:
            loaded.close()
        return json.loads(answer.body)["results"]

    return asyncio.run(work())


def test_several_series_go_on_by_their_externals(folder: Path) -> None:
    items = past_and_future("B") + past_and_future("A")
    results = ask(load(folder), items)
    assert len(results) == 2 * HORIZON
    assert [one["time"] for one in results] == sorted(one["time"] for one in results)
    assert results[0]["time"] == "2024-02-26T00:00:00.000000Z"
    assert results[0]["quantiles"] == [0.1, 0.5, 0.9]
    for shop in "AB":
        mine = [one for one in results if one["timeseriesIdentifier"] == {"shop": shop}]
        truth = [row["sold"] for row in rows_of(shop)[-HORIZON:]]
        assert [one["forecast"] for one in mine] == pytest.approx(truth, abs=1.5)
        assert all(not one["ignored"] and len(one["quantilesValues"]) == 3 for one in mine)


def test_the_series_of_a_data_set_go_on_as_in_requests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table()
    known = [
        row if row["day"] < DAY + dt.timedelta(days=56) else {**row, "sold": None}
        for row in whole.to_pylist()
    ]
    short = [{**row, "shop": "short"} for row in rows_of()[:3]]
    nobody = [{**row, "shop": None} for row in rows_of()]
    rows = in_mesh_types(pa.Table.from_pylist([*short, *nobody, *known], whole.schema), "rows")
    rows = rows.rename_columns(["on", *rows.column_names[1:]])
    found = []
    for most in (5_000, 1):
        monkeypatch.setattr("tulle.serving.scoring_series.ROWS_AT_ONCE", most)
        scoring = SeriesScoring(load(folder), "demand", columns_of(rows.schema), {"day": "on"})
        assert scoring.order == ' ORDER BY "shop"'
        given = scoring.scored(rows.to_batches(max_chunksize=40))
        found.append(pa.Table.from_batches(list(given), scoring.schema).to_pylist())
        assert (scoring.told.rows, scoring.told.failed) == (2 + 2 * HORIZON, 2)
        assert scoring.told.errors == {"NotEnoughPast": 1, "InvalidFeatures": 1}
    assert found[0] == found[1]
    assert [row["shop"] for row in found[0]] == ["short", None, *["A"] * HORIZON, *["B"] * HORIZON]
    assert [row["error"] is None for row in found[0][:3]] == [False, False, True]
    asked = ask(load(folder), past_and_future("B"))
    assert [row["forecast"] for row in found[0][-HORIZON:]] == [one["forecast"] for one in asked]
    assert [row["quantile_0.9"] for row in found[0][-HORIZON:]] == [
        one["quantilesValues"][2] for one in asked
    ]
    assert found[0][-1]["day"] == DAY + dt.timedelta(days=59)
    with pytest.raises(Invalid, match="the rows have no column 'day', which endpoint 'demand' needs"):
        SeriesScoring(load(folder), "demand", columns_of(rows.schema), {})


def test_a_series_that_cannot_be_forecast_fails_no_other(folder: Path) -> None:
    short = past_and_future("A")[:3]
    *answered, failed = ask(load(folder), past_and_future("B") + short)
    assert len(answered) == HORIZON
    assert (failed["ignored"], failed["ignoreReason"]) == (True, "NotEnoughPast")
    assert failed["timeseriesIdentifier"] == {"shop": "A"}


@pytest.mark.parametrize(
    ("items", "status", "kind", "message"),
    [
        ([], 400, "InvalidRequest", "no row"),
        ([1], 400, "InvalidRequest", "row 0: it is 1"),
        ([{"day": "2024-01-01", "sold": 1}], 400, "InvalidFeatures", "row 0: 'shop' is missing"),
        ([{"day": "x", "shop": "A", "sold": 1}], 400, "InvalidFeatures", "feature 'day' is \"x\""),
        ([{"day": "2024-01-01", "shop": "A", "sold": "1"}], 400, "InvalidFeatures", "row 0: feature 'sold'"),
        ([{"day": "2024-01-01", "shop": "A", "sols": 1}], 400, "InvalidFeatures", "unknown feature 'sols'"),
        (
            [{"day": "2024-01-01", "shop": "A", "sold": 1}] * 2,
            400,
            "InvalidFeatures",
            "two rows are of 2024-01-01",
        ),
        (past_and_future("A")[:-1], 422, "MissingExternals", "3 rows tell the externals ahead"),
        (
            past_and_future("A")[5:] + plain([{**rows_of("A")[0], "sold": None}]),
            400,
            "InvalidFeatures",
            "between others",
        ),
    ],
)
def test_what_cannot_be_read_is_told(folder: Path, items: Any, status: int, kind: str, message: str) -> None:
    error = ask(load(folder), items)
    assert isinstance(error, RequestError), error
    assert (error.status, error.error_type) == (status, kind), error.detail
    assert message in error.detail


def test_the_stock_client_forecasts_and_asks_for_effects(tmp_path: Path) -> None:
    rows = np.column_stack([np.asarray(customers().column(f).to_pylist(), dtype=float) for f in FEATURES])
    treated = np.arange(len(rows)) % 2
    learner = TLearner(LinearRegression()).fit(rows, treated, rows[:, 2] + treated * (rows[:, 0] / 10 + 1))
    effects = save_model(
        tmp_path / "e", "effects", learner, features=FEATURES, sample=customers(), metrics={}
    )
    mesh = make_mesh(tmp_path / "mesh", save(tmp_path / "m", lags()))
    own = mesh.lake.repository("high-value-customers")
    for name in effects.files:
        own.put("main", f"models/effects/{name}", effects.folder / name)
    own.commit("main", "effects")
    text = SERVICE + "- {name: coupon, type: predict, model: effects}\n"
    folder = mesh.unpacked(mesh.build(text))
    mesh.database.close()
    with running(folder, "--port", "0") as (_, said):
        client = dataikuapi.APINodeClient("http://" + re.findall(r"answers on (\S+)", said)[0], "shops")
        past = [
            {"day": f"{row['day']}T00:00:00.000Z", "shop": "A", "sold": row["sold"]} for row in rows_of("A")
        ]
        results = client.forecast("demand", past)["results"]
        assert [one["time"][:10] for one in results] == [
            "2024-03-01",
            "2024-03-02",
            "2024-03-03",
            "2024-03-04",
        ]
        assert results[0]["timeseriesIdentifier"] == {"shop": "A"}
        same = client.forecast("demand", past, forced_generation="v1")["results"]
        assert same == results
        with pytest.raises(DataikuException, match="UnknownGeneration"):
            client.forecast("demand", past, forced_generation="v9")
        with pytest.raises(DataikuException, match="NotEnoughPast: 3 rows are of the past"):
            client.forecast("demand", past[:3])
        features = {"recency": 100, "frequency": 5, "spend": 3}
        assert client.predict_effect("coupon", features)["result"]["effect"] == pytest.approx(11)
        many = client.predict_effects("coupon", [{"features": features}] * 2)["results"]
        assert [one["effect"] for one in many] == pytest.approx([11, 11])


def test_a_package_is_tested_described_and_probed(folder: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        (verdict,) = await loaded.test()
        assert verdict.passed, verdict.message
        assert await loaded.probe() == {}
        loaded.close()

    asyncio.run(work())
    post = json.loads((folder / "openapi.json").read_text())["paths"]["/demand/forecast"]["post"]
    row = post["requestBody"]["content"]["application/json"]["schema"]["properties"]["items"]["items"]
    assert row["required"] == ["day", "shop"]
    assert "1 day" in row["description"]


OWN = """
from tulle.sdk.forecast import Forecaster


class Same(Forecaster):
    takes = "frame"
    least = 1

    def forecast(self, past, future, target):
        if (past[target] == 404).any():
            raise ValueError("a secret")
        if (past[target] == 907).any():
            bytearray(8 << 30)
        assert list(future.columns) == ["shop", "day"]
        return [past[target].iloc[-1]] * len(future)
"""


def test_a_class_of_ones_own_forecasts_and_may_fail(tmp_path: Path) -> None:
    with _shared_modules([("_same", OWN)], Path("/product/transform")):
        import _same  # type: ignore[import-not-found]

        saved = save(tmp_path / "m", _same.Same(), step="1 month")
    sys.modules.pop("_same", None)
    mesh = make_mesh(tmp_path / "mesh", saved)
    folder = mesh.unpacked(mesh.build(SERVICE.partition("  test_queries")[0]))
    mesh.database.close()
    results = ask(load(folder), [{"day": "2024-01-31", "shop": "A", "sold": 7}])
    assert [one["time"][:10] for one in results] == ["2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]
    assert {one["forecast"] for one in results} == {7}
    assert "quantiles" not in results[0]
    error = ask(load(folder), [{"day": "2024-01-31", "shop": "A", "sold": 404}])
    assert (error.status, error.error_type) == (500, "EvaluationFailed")
    assert "secret" not in error.detail
    error = ask(load(folder), [{"day": "2024-01-31", "shop": "A", "sold": 907}])
    assert (error.status, error.error_type) == (500, "TooMuchMemory")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"step": "often"}, "'often' is no step"),
        ({"step": "1 hour"}, "these are dates"),
        ({"horizon": 0}, "from 1 to 1000 steps"),
        ({"target": "shop", "identifiers": []}, "the target 'shop' is string"),
        ({"time": "shop", "identifiers": []}, "the time 'shop' is string"),
        ({"identifiers": ["day"]}, "different columns"),
        ({"sample": table(3)}, "no series of the sample"),
        ({"metrics": {"mae": 3.0}, "baseline": {"mae": 2.0}}, "worse than the baseline"),
    ],
)
def test_what_cannot_be_saved_is_told(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=message):
        save(tmp_path, lags(), **more)


def test_a_model_that_gives_too_few_numbers_is_not_saved(tmp_path: Path) -> None:
    class Short(Forecaster):
        def forecast(self, past: Any, future: Any, target: str) -> Any:
            return [1.0]

    with pytest.raises(Invalid, match="1 numbers for 4 steps"):
        save(tmp_path, Short())
    with pytest.raises(Invalid, match="has no forecast"):
        save(tmp_path, LinearRegression())


def test_an_endpoint_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    mesh = make_mesh(tmp_path / "mesh", save(tmp_path / "m", lags()))
    with pytest.raises(Invalid, match="forecasts series"):
        mesh.build("service: wrong\nendpoints:\n- {name: it, type: predict, model: high_value}\n")
    mesh.database.close()


def test_steps_keep_to_the_calendar() -> None:
    assert next_time(dt.date(2024, 1, 31), "1 month") == dt.date(2024, 2, 29)
    assert next_time(dt.date(2023, 11, 30), "3 months") == dt.date(2024, 2, 29)
    noon = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    assert next_time(noon, "1 year") == noon.replace(year=2025, day=28)
    assert next_time(noon, "15 minutes") == noon.replace(minute=15)
    friday = dt.date(2024, 5, 31)
    assert [next_time(friday, "1 weekday", n) for n in (1, 5, 6)] == [
        dt.date(2024, 6, 3),
        dt.date(2024, 6, 7),
        dt.date(2024, 6, 10),
    ]
    assert next_time(dt.date(2024, 6, 1), "2 weekdays") == dt.date(2024, 6, 4)


def series(step: str) -> Series:
    return Series("day", "sold", ("shop",), (), 3, step, ())


def sold(*days: str) -> list[dict[str, Any]]:
    return [{"shop": "a", "day": dt.date.fromisoformat(day), "sold": float(n)} for n, day in enumerate(days)]


@pytest.mark.parametrize(
    ("past", "ahead"),
    [
        # Those that end with their month go on to do so; what began on the 28th does not.
        (["2024-12-31", "2025-01-31", "2025-02-28"], ["2025-03-31", "2025-04-30", "2025-05-31"]),
        (["2025-01-28", "2025-02-28"], ["2025-03-28", "2025-04-28", "2025-05-28"]),
        (["2025-01-31"], ["2025-02-28", "2025-03-31", "2025-04-30"]),
        (["2025-01-05", "2025-02-07"], ["2025-03-07", "2025-04-07", "2025-05-07"]),
    ],
)
def test_months_that_end_go_on_ending(past: list[str], ahead: list[str]) -> None:
    told = times_ahead(sold(*past), series("1 month"))
    assert [row["day"].isoformat() for row in told] == ahead
    assert told[0]["shop"] == "a"


def test_a_past_with_gaps_is_filled_for_what_counts_steps() -> None:
    filled = evenly(sold("2025-01-01", "2025-01-02", "2025-01-05"), series("1 day"))
    assert [(row["day"].day, row["sold"], row["shop"]) for row in filled] == [
        (1, 0.0, "a"),
        (2, 1.0, "a"),
        (3, pytest.approx(4 / 3), "a"),
        (4, pytest.approx(5 / 3), "a"),
        (5, 2.0, "a"),
    ]
    months = sold("2024-12-31", "2025-03-31")
    assert [row["day"].isoformat() for row in evenly(months, series("1 month"))][1:3] == [
        "2025-01-31",
        "2025-02-28",
    ]
    working = sold("2025-01-02", "2025-01-03", "2025-01-06")  # Thursday, Friday, Monday
    assert evenly(working, series("1 weekday")) == working
    uneven = sold("2025-01-01", "2025-01-04", "2025-01-09")
    assert evenly(uneven, series("2 days")) == uneven
    with pytest.raises(Invalid, match="more than 10,000 steps of 1 day are missing"):
        evenly(sold("1900-01-01", "2025-01-01"), series("1 day"))
    with pytest.raises(Invalid, match="beyond the calendar"):
        times_ahead(sold("9999-12-30", "9999-12-31"), series("1 day"))
