"""How far a service's queries have moved from what its models were made with, and how good its answers were.

Read from the query log and the models' samples; one measurement is of one endpoint and generation in a span of time.
What has no meaningful measure is told with the reason, and not measured.
"""

# ruff: noqa: S608  names are ours, values go through `literal`
from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec
import pyarrow.parquet as pq

from tulle.catalog.query_log import LAST_TOLD, QueryLog, Wanted, where
from tulle.errors import TulleError
from tulle.lake.repository import Lake
from tulle.pipeline.model_signature import SAMPLE, SIGNATURE, Signature, read_signature
from tulle.serving.drift import Drift, drift_of, performance
from tulle.serving.log_rows import MASK
from tulle.serving.package import Package

LOG = logging.getLogger("tulle")
MOST_ROWS = 50_000  # of one measurement: an even choice of them by their ids
_ANSWERED = "status = 200 AND error IS NULL"
FIRST_ROWS = 1000  # of a generation's answers, what later ones are compared with
INPUT, PREDICTION, PERFORMANCE = "input", "prediction", "performance"  # what a measurement is of
# What is told of an effect is what happened to somebody who was treated, or was not; never both.
NOT_OF_EFFECTS: Mapping[str, str] = {
    PERFORMANCE: "an outcome is what happened with the treatment or without it, and an effect is the difference of both"
}
NOT_OF_FORECASTS: Mapping[str, str] = {
    INPUT: "requests send the past of series, most of it again and again",
    PREDICTION: "how series go on follows the past that each request sends",
    PERFORMANCE: "an outcome is of a request, and a forecast says several times, which later requests tell as the past",
}


@dataclass(frozen=True, slots=True)
class Quality:
    """A measured quality in the window; `then` is what it was on the hold-out, None where that was not measured."""

    metric: str
    now: float
    then: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One endpoint and generation in a window, seconds since the epoch.

    `unread` says why a feature is not here, `unmeasured` why nothing is told of the input, prediction or performance.
    """

    endpoint: str
    generation: str
    model: str
    since: float
    until: float
    rows: int
    features: tuple[Drift, ...]
    unread: Mapping[str, str]
    prediction: Drift | None
    prediction_then: str  # what the prediction is compared with
    outcomes: int
    qualities: tuple[Quality, ...]
    problem: str = ""  # why nothing could be measured
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The worst of its parts."""
        told = [one.verdict for one in (*self.features, *([self.prediction] if self.prediction else ()))]
        return next((v for v in ("drifted", "moving", "stable") if v in told), "unknown")

    def plain(self) -> dict[str, Any]:
        """As the API tells it."""
        found = {**asdict(self), "verdict": self.verdict}
        found["features"] = [{**asdict(one), "verdict": one.verdict} for one in self.features]
        if self.prediction is not None:
            found["prediction"] = {**asdict(self.prediction), "verdict": self.prediction.verdict}
        return found


def measure(
    log: QueryLog,
    lake: Lake,
    packages: Sequence[Package],
    *,
    since: float,
    until: float,
    endpoint: str = "",
    generation: str = "",
    environment: str = "",
) -> list[Measured]:
    """Every endpoint that predicts or forecasts, and generation, of a service that was asked in a window."""
    if not packages:
        return []
    service = packages[-1].service
    wanted = Wanted(since, until, endpoint, generation, shadow=False, environment=environment)
    asked = log.rows(
        service,
        f"SELECT DISTINCT endpoint, generation FROM queries WHERE {where(wanted)} ORDER BY ALL",
        since=since,
        until=until,
    )
    found = []
    for row in asked:
        chosen = next((p for p in packages if p.version == row["generation"]), None)
        entry = (
            next((e for e in chosen.manifest.endpoints if e["name"] == row["endpoint"]), None)
            if chosen
            else None
        )
        if chosen is None or entry is None or entry["type"] not in _MEASURES:
            continue
        one = Wanted(since, until, row["endpoint"], row["generation"], shadow=False, environment=environment)
        found.append(_MEASURES[entry["type"]](log, lake, chosen, entry, one))
    return found


def _measured(
    log: QueryLog, lake: Lake, package: Package, entry: Mapping[str, Any], wanted: Wanted
) -> Measured:
    model = str(entry["model"]).removeprefix("models/")
    since, until = wanted.since or 0.0, wanted.until or 0.0
    rows = _rows(log, package.service, wanted)
    try:
        signature, sample = _model(lake, package, model)
    except (TulleError, OSError, ValueError) as exc:
        said = exc.message if isinstance(exc, TulleError) else str(exc)
        nothing = (wanted.endpoint, wanted.generation, model, since, until, len(rows))
        return Measured(*nothing, (), {}, None, "", 0, (), f"the model's sample cannot be read: {said}")
    features, unread = [], {}
    for name in signature.feature_names:
        now = [row["features"][name] for row in rows if row["features"] and name in row["features"]]
        if not now:
            unread[name] = "it is not kept"
        elif MASK in now:
            unread[name] = "it is masked"
        elif name not in sample:
            unread[name] = "the model's sample does not have it"
        else:
            features.append(drift_of(name, sample[name], now))
    prediction, compared = _prediction(log, package.service, signature, wanted, rows)
    told = [row for row in rows if row["outcome"] not in (None, MASK)]
    unmeasured = NOT_OF_EFFECTS if signature.task == "effect" else {}
    qualities = {} if PERFORMANCE in unmeasured else _performance(signature, told)
    return Measured(
        wanted.endpoint,
        wanted.generation,
        model,
        since,
        until,
        len(rows),
        tuple(features),
        unread,
        prediction,
        compared,
        len(told),
        tuple(Quality(name, value, signature.metrics.get(name)) for name, value in qualities.items()),
        unmeasured=unmeasured,
    )


def _forecasts(
    log: QueryLog, _lake: Lake, package: Package, entry: Mapping[str, Any], wanted: Wanted
) -> Measured:
    """How many forecasts there were; and that, and why, they are not measured."""
    model = str(entry["model"]).removeprefix("models/")
    since, until = wanted.since or 0.0, wanted.until or 0.0
    sql = f"SELECT count(*) AS answers FROM queries WHERE {where(wanted)} AND {_ANSWERED}"
    (counted,) = log.rows(package.service, sql, since=since, until=until)
    nothing = (wanted.endpoint, wanted.generation, model, since, until, counted["answers"])
    return Measured(*nothing, (), {}, None, "", 0, (), unmeasured=NOT_OF_FORECASTS)


_MEASURES = {"predict": _measured, "forecast": _forecasts}


def _performance(signature: Signature, told: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    """How good the answers were whose outcome is told."""
    return performance(
        [row["outcome"] for row in told],
        [row["result"].get("prediction") for row in told],
        [row["result"].get("probas") for row in told],
        of_classes=bool(signature.classes or signature.clusters),
    )


def _rows(log: QueryLog, service: str, wanted: Wanted) -> list[dict[str, Any]]:
    """The answered rows of a window, an even choice of many, JSON read."""
    sql = (
        f"WITH told AS ({LAST_TOLD}) SELECT q.features, q.result, told.outcome FROM queries q "
        f"LEFT JOIN told USING (request_id, item) WHERE {where(wanted)} "
        f"AND {_ANSWERED} AND result IS NOT NULL ORDER BY hash(request_id, item) LIMIT {MOST_ROWS}"
    )
    read = (
        {name: None if value is None else msgspec.json.decode(value) for name, value in row.items()}
        for row in log.rows(service, sql, since=wanted.since, until=wanted.until)
    )
    return [row for row in read if isinstance(row["result"], dict) and "prediction" in row["result"]]


def _signature(lake: Lake, package: Package, model: str) -> Signature:
    repository = lake.repository(package.product)
    commit = package.manifest.commits[package.product]
    return read_signature(repository.get(commit, f"models/{model}/{SIGNATURE}"))


def _model(lake: Lake, package: Package, model: str) -> tuple[Signature, Mapping[str, list[Any]]]:
    """What a packaged model takes, and its sample by column."""
    repository = lake.repository(package.product)
    commit = package.manifest.commits[package.product]
    signature = _signature(lake, package, model)
    table = pq.read_table(io.BytesIO(repository.get(commit, f"models/{model}/{SAMPLE}")))
    return signature, {name: table.column(name).to_pylist() for name in table.column_names}


def class_names(lake: Lake, package: Package) -> frozenset[str]:
    """The texts that a package's models answer with; none of a model that cannot be read."""
    found: set[str] = set()
    for entry in package.manifest.endpoints:
        if entry["type"] != "predict":
            continue
        try:
            signature = _signature(lake, package, str(entry["model"]).removeprefix("models/"))
        except (TulleError, OSError, ValueError, KeyError) as exc:
            LOG.warning("the classes of a model of '%s' cannot be read: %s", package.service, exc)
            continue
        found.update(str(value) for value in (*signature.classes, *signature.clusters))
    return frozenset(found)


def _prediction(
    log: QueryLog, service: str, signature: Signature, wanted: Wanted, rows: Sequence[Mapping[str, Any]]
) -> tuple[Drift | None, str]:
    """How far the answers moved, and from what."""
    results = [row["result"] for row in rows]
    if signature.percentiles and len(signature.classes) == 2:
        # The form that answers differs from the trained one in the last digits, which would split what is equal.
        now = [round(list(one["probas"].values())[1], 5) for one in results if one.get("probas")]
        then = [round(one, 5) for one in signature.percentiles]
        return drift_of(PREDICTION, then, now), "the model's sample"
    first = _first_answers(log, service, wanted)
    if not first or not results:
        return None, ""
    now = [one["prediction"] for one in results]
    return drift_of(PREDICTION, first, now), f"the first {len(first):,} answers of {wanted.generation}"


def _first_answers(log: QueryLog, service: str, wanted: Wanted) -> list[Any]:
    rows = log.first(service, "result", replace(wanted, since=None, until=None), limit=FIRST_ROWS)
    read: Iterator[Any] = (msgspec.json.decode(row["result"]) for row in rows if row["result"] is not None)
    return [one["prediction"] for one in read if isinstance(one, dict) and "prediction" in one]
