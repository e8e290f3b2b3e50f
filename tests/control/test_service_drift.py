"""Drift as it is measured from the log: inputs, predictions and performance, kept a day at a time."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression
from tests.control.logged import PRODUCT, LoggedMesh
from tests.serving.conftest import FEATURES

from tulle.catalog.query_log import find_repository
from tulle.catalog.service_drift import measure
from tulle.cli.connect import mesh_client
from tulle.control import query_log, service_drift
from tulle.observe import incidents
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_series import save_forecaster
from tulle.sdk.causal import TLearner
from tulle.sdk.forecast import Lags
from tulle.sdk.service_log import ServiceLog
from tulle.server.app import application


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def asked(logged: LoggedMesh, *, moved: int) -> list[Any]:
    """Ask with the rows of the sample, `recency` moved."""
    rows = logged.sample.to_pylist()
    items = [
        {
            "features": {
                "recency": r["recency"] + moved,
                "frequency": r["frequency"],
                "spend": float(r["spend"]),
            }
        }
        for r in rows
    ]
    return logged.ask([("/buys/predict-multi", {"items": items})], ids=[f"moved{moved}"])


def page(logged: LoggedMesh, path: str) -> httpx.Response:
    """A page of the portal."""
    settings = logged.workspace.settings

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(application(settings))
        url = f"http://127.0.0.1:{settings.control_plane_port}"
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            return await client.get(path, headers={"accept": "text/html"})

    return asyncio.run(once())


def test_what_is_asked_moves(logged: LoggedMesh) -> None:
    assert "no prediction or forecast was asked for" in logged.tulle("service", "drift", "scores")
    (answer,) = asked(logged, moved=0)
    told = [
        {"requestId": "moved0", "item": number, "outcome": one["prediction"] if number % 10 else 1}
        for number, one in enumerate(answer["results"])
    ]
    with mesh_client(logged.mesh.folder) as client:
        ServiceLog(client, "scores").tell(told)
        (measured,) = ServiceLog(client, "scores").drift()["measured"]
    assert (measured["endpoint"], measured["generation"], measured["rows"]) == ("buys", "v1", 200)
    assert {one["name"]: one["verdict"] for one in measured["features"]} == {
        "recency": "stable",
        "frequency": "stable",
        "spend": "stable",
    }
    assert measured["prediction"]["verdict"] == "stable"
    assert measured["verdict"] == "stable"
    qualities = {one["metric"]: one for one in measured["qualities"]}
    assert set(qualities) == {"accuracy", "log_loss", "roc_auc"}
    right = sum(t["outcome"] == one["prediction"] for t, one in zip(told, answer["results"], strict=True))
    assert qualities["accuracy"]["now"] == right / 200
    assert (qualities["accuracy"]["then"], qualities["roc_auc"]["then"]) == (0.95, 0.97)

    asked(logged, moved=200)
    asked(logged, moved=400)
    output = logged.tulle("service", "drift", "scores", "--window", "1 hour")
    assert "buys v1: 600 answers by model buys" in output
    assert "recency: drifted; PSI " in output
    assert "frequency: stable" in output
    assert "of 200 outcomes, on the hold-out 0.95" in output
    html = page(logged, "/services/scores/queries").text
    assert "600 answers by buys" in html
    assert "200 outcomes, 200 of them of answers in the log" in html
    assert "unknown</span>" not in html
    with mesh_client(logged.mesh.folder) as client:
        ServiceLog(client, "scores").tell([{"requestId": "nobody-s", "outcome": 1}])
    html = page(logged, "/services/scores/queries").text
    assert "1 unknown</span> of no request in the log: 1 of 201 by" in html
    assert ">drifted<" in html
    assert "then, " in html
    assert "buys/predict-multi" in html
    assert page(logged, "/services/scorse/queries").status_code == 404
    assert "Nothing that failed" in page(logged, "/services/scores/queries?errors=true").text
    none = json.loads(logged.tulle("service", "drift", "scores", "--endpoint", "person", "--json"))
    assert none["measured"] == []


def test_days_are_kept_once_and_again_when_something_is_new(logged: LoggedMesh) -> None:
    asked(logged, moved=0)
    query_log.collect_all(logged.workspace, "scores")
    today = dt.datetime.now(dt.UTC).date()
    workspace = logged.workspace
    assert service_drift.keep_days(workspace, "scores", today=today) == [today.isoformat()]
    assert service_drift.keep_days(workspace, "scores", today=today) == []
    assert {row["of"] for row in service_drift.history(workspace, "scores", days=2)} == {
        "input",
        "prediction",
    }
    with mesh_client(logged.mesh.folder) as client:
        kept = ServiceLog(client, "scores")
        kept.tell([{"requestId": "moved0", "item": number, "outcome": 1} for number in range(60)])
        assert kept.measure_days() == [today.isoformat()]
        rows = kept.drift_history()
    found = [(row["name"], row["value"], row["then"]) for row in rows if row["of"] == "performance"]
    assert {name for name, _, _ in found} >= {"accuracy", "log_loss"}
    assert {row["measure"] for row in rows if row["of"] == "input"} == {"psi", "jensen_shannon", "ks", "ks_p"}
    repository = find_repository(workspace.lake, "scores")
    assert repository is not None
    assert len(list(repository.entries("main", "drift/"))) == 1
    (entry,) = repository.entries("main", "outcomes/")
    joined = pq.read_table(io.BytesIO(repository.get("main", entry.path))).to_pylist()
    assert [(row["item"], row["outcome"]) for row in joined] == [(number, "1") for number in range(60)]
    assert json.loads(joined[0]["features"])["recency"] == 0
    assert json.loads(logged.tulle("service", "drift", "scores", "--history")) == rows
    assert service_drift.keep_days(workspace, "scores", today=today + dt.timedelta(days=30)) == []


def test_what_drifted_is_an_incident_of_the_product(
    logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = logged.workspace
    incidents.follow(workspace.settings, workspace.database)
    asked(logged, moved=400)
    with mesh_client(logged.mesh.folder) as client:
        assert len(ServiceLog(client, "scores").measure_days()) == 1
    while incidents.follow(workspace.settings, workspace.database):
        pass
    (one,) = incidents.recent(workspace.database, product="scores")
    assert (one.cause, one.closed_at) == ("drift", None)
    assert one.message.startswith("service 'scores', buys v1: recency")
    service_drift.tell(workspace, ["another"])
    assert incidents.follow(workspace.settings, workspace.database) == 0
    watch = service_drift.DriftWatch(workspace)
    watch._once()
    watch._once()  # what was told is told once
    assert incidents.follow(workspace.settings, workspace.database) == 1
    monkeypatch.setattr(service_drift, "DAYS_AGAIN", -1)  # nothing was asked for longer than is looked at
    watch._once()
    while incidents.follow(workspace.settings, workspace.database):
        pass
    (one,) = incidents.recent(workspace.database, product="scores")
    assert one.closed_at is not None


def test_what_is_masked_is_not_measured(logged: LoggedMesh) -> None:
    stricter = PRODUCT.replace("'decimal(10,2)'", "'decimal(10,2)', pii: direct")
    logged.mesh.write(
        "products/shop/scores/product.yaml", stricter.replace("who buys}", "who buys, version: 2.0.0}")
    )
    logged.tulle("apply")
    asked(logged, moved=0)
    output = logged.tulle("service", "drift", "scores")
    assert "spend: it is masked" in output
    assert "recency: stable" in output


UNMEASURED = """
service: scores
endpoints:
- {name: coupon, type: predict, model: coupon, pool: {floor: 1, ceil: 1}}
- {name: demand, type: forecast, model: demand, pool: {floor: 1, ceil: 1}}
"""


def effects(logged: LoggedMesh, folder: Path) -> ModelFile:
    """A model of what a coupon changes."""
    rows = np.column_stack(
        [np.asarray(logged.sample.column(name).to_pylist(), dtype=float) for name in FEATURES]
    )
    treated = np.arange(len(rows)) % 2
    learner = TLearner(LinearRegression()).fit(rows, treated, rows[:, 2] + treated * (rows[:, 0] + 1))
    return save_model(folder, "coupon", learner, features=FEATURES, sample=logged.sample, metrics={"mae": 1})


def forecasts(folder: Path) -> tuple[ModelFile, list[dict[str, Any]]]:
    """A model that forecasts, and the past that it learned."""
    days = [
        {"day": dt.date(2026, 1, 1) + dt.timedelta(days=day), "sold": 10.0 + day % 7} for day in range(28)
    ]
    model = Lags(LinearRegression(), lags=(7,)).fit([days], "sold")
    about: dict[str, Any] = {"time": "day", "target": "sold", "horizon": 3, "step": "1 day"}
    sample = pa.Table.from_pylist(days)
    saved = save_forecaster(folder, "demand", model, sample=sample, metrics={"mae": 1.0}, **about)
    return saved, [{**one, "day": one["day"].isoformat()} for one in days]


def test_of_effects_and_forecasts_it_is_told_what_is_not_measured(logged: LoggedMesh, tmp_path: Path) -> None:
    model, past = forecasts(tmp_path / "demand")
    own = logged.workspace.lake.repository("scores")
    for one in (effects(logged, tmp_path / "coupon"), model):
        for name in one.files:
            own.put("main", f"models/{one.name}/{name}", one.folder / name)
    own.commit("main", "models")
    logged.declare(UNMEASURED)
    items = [
        {"features": {name: float(row[name]) for name in FEATURES}}
        for row in logged.sample.slice(0, 60).to_pylist()
    ]
    told = [{"requestId": "many", "item": number, "outcome": number} for number in range(len(items))]
    version = logged.package()
    logged.ask(
        [
            ("/coupon/predict-effect-multi", {"items": items}),
            ("/demand/forecast", {"items": past}),
            ("/demand/forecast", {"items": past[:2]}),  # no answer: it is not counted
            ("/feedback", {"items": [*told, {"requestId": "ahead", "outcome": 3}]}),
        ],
        ids=["many", "ahead", "short", "told"],
        version=version,
    )
    output = logged.tulle("service", "drift", "scores")
    assert "performance: not measured, an outcome is what happened with the treatment or without it" in output
    assert "demand v2: 1 answers by model demand" in output
    assert "input: not measured, requests send the past of series" in output
    html = page(logged, "/services/scores/queries").text
    assert html.count("is not measured: ") == 4
    assert "demand v2: 1 answer by demand</p>" in html

    coupon, demand = measure(logged.log, logged.workspace.lake, [version], since=0, until=time.time())
    assert (coupon.endpoint, coupon.rows, coupon.outcomes) == ("coupon", 60, 60)
    assert (coupon.qualities, list(coupon.unmeasured)) == ((), ["performance"])
    assert {one.name for one in coupon.features} == set(FEATURES)
    assert coupon.prediction is not None
    assert coupon.prediction.verdict == "stable"
    assert (demand.endpoint, demand.model, demand.rows) == ("demand", "demand", 1)
    assert list(demand.plain()["unmeasured"]) == ["input", "prediction", "performance"]
    assert (demand.verdict, demand.problem) == ("unknown", "")
    rows = [row for one in (coupon, demand) for row in service_drift.as_rows(dt.date(2026, 1, 1), one)]
    assert {(row["endpoint"], row["of"]) for row in rows} == {("coupon", "input"), ("coupon", "prediction")}
