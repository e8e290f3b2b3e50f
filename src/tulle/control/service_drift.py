"""Drift of services, measured a day at a time, kept as the data set `drift` beside the queries; told below `/mesh/v1`.

What is kept of a day replaces what was kept of it before, so measuring twice changes nothing. Outcomes come late: the
days of the last week are measured again when something was told.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import Query

from tulle.catalog.query_log import FEEDBACK, QUERIES, QueryLog, day_of, find_repository
from tulle.catalog.routes import Routes
from tulle.catalog.service_drift import Measured, measure
from tulle.control import query_log
from tulle.control.query_log_api import Moment, check_known
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.events import SERVICE_DRIFT, Event
from tulle.lake.repository import Repository
from tulle.serving import package
from tulle.serving.drift import Drift
from tulle.state import log as event_log

LOG = logging.getLogger("tulle")
DRIFT, OUTCOMES = "drift", "outcomes"
EVERY_SECONDS = 3600.0
FIRST_AFTER = 60.0
DAYS_AGAIN = 7
DAY = 86_400.0
SCHEMA = pa.schema(
    [
        pa.field("day", pa.date32(), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("generation", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("of", pa.string(), nullable=False),  # input, prediction or performance
        pa.field("name", pa.string(), nullable=False),  # the feature, `prediction`, the metric
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("then", pa.float64()),  # of a metric: on the hold-out
        pa.field("verdict", pa.string()),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)

Text = Annotated[str, Query(max_length=200)]


class DriftWatch:
    """Measures the drift of one mesh's services in the background."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stop = threading.Event()
        self._told: dict[str, str] = {}  # by product
        self._thread = threading.Thread(target=self._watch, name="service-drift", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(5)

    def _watch(self) -> None:
        pause = FIRST_AFTER
        while not self._stop.wait(pause):
            pause = EVERY_SECONDS
            try:
                self._once()
            except Exception:  # whatever it met, the next time may go well
                LOG.exception("drift is measured and told later")

    def _once(self) -> None:
        for service in query_log.logged_services(self._workspace):
            if self._stop.is_set():
                return
            try:
                keep_days(self._workspace, service)
            except Exception:
                LOG.exception("the drift of '%s' is measured again later", service)
        # Also where nothing was measured: of a service that is not asked any more nothing drifts after a week.
        for product, found in drifting(self._workspace).items():
            if self._told.get(product) != found:
                _note(self._workspace, product, found)
                self._told[product] = found


def keep_days(workspace: Workspace, service: str, *, today: dt.date | None = None) -> list[str]:
    """Measure the days of the last week that have something new, and keep what was found; which days."""
    repository = find_repository(workspace.lake, service)
    if repository is None:
        return []
    log = QueryLog(workspace.settings, workspace.lake)
    versions = package.packages(workspace.database, service)
    last = today or dt.datetime.now(dt.UTC).date()
    draft = repository.draft(repository.default_branch)
    kept = []
    for back in range(DAYS_AGAIN):
        day = last - dt.timedelta(days=back)
        state = _state(repository, day)
        if state is None:
            continue
        folder = f"{DRIFT}/day={day.isoformat()}"
        known = [entry for entry in draft.entries(f"{folder}/") if entry.path.endswith(".parquet")]
        if any(f"/{state}.parquet" in entry.path for entry in known):
            continue  # measured with all there is
        begin = dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()
        found = measure(log, workspace.lake, versions, since=begin, until=begin + DAY)
        rows = [row for one in found for row in as_rows(day, one)]
        told = f"{OUTCOMES}/day={day.isoformat()}"
        draft.delete_many([entry.path for entry in known])
        draft.delete_prefix(f"{told}/")
        draft.put(f"{folder}/{state}.parquet", _parquet(pa.Table.from_pylist(rows, SCHEMA)))
        outcomes = log.outcomes(service, begin, begin + DAY)
        if outcomes.num_rows:
            draft.put(f"{told}/{state}.parquet", _parquet(outcomes))
        kept.append(day.isoformat())
    if kept:
        repository.commit_draft(repository.default_branch, draft, f"Drift of {', '.join(kept)}")
    return kept


def tell(workspace: Workspace, services: Sequence[str]) -> None:
    """Note, for each product with a service that was measured anew, what has drifted, or that nothing has any more."""
    versions = (package.packages(workspace.database, service) for service in services)
    measured = {found[-1].product for found in versions if found}
    for product, found in drifting(workspace, measured).items():
        _note(workspace, product, found)


def drifting(workspace: Workspace, products: Collection[str] | None = None) -> dict[str, str]:
    """By product (each that has a log, or these), what of its services has drifted, in words; empty for nothing."""
    owned: dict[str, list[str]] = {}
    for service in query_log.logged_services(workspace):
        versions = package.packages(workspace.database, service)
        if versions and (products is None or versions[-1].product in products):
            owned.setdefault(versions[-1].product, []).append(service)
    return {
        product: "; ".join(said for service in services if (said := drifted(workspace, service)))
        for product, services in owned.items()
    }


def _note(workspace: Workspace, product: str, found: str) -> None:
    with workspace.database.write() as cx:
        event_log.append(cx, Event(SERVICE_DRIFT, product, {"drifted": bool(found), "message": found}))


def drifted(workspace: Workspace, service: str) -> str:
    """What has drifted on the last day that was measured, in words; empty when nothing has."""
    rows = history(workspace, service, days=DAYS_AGAIN)
    last = max((row["day"] for row in rows), default="")
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["day"] == last and row["verdict"] == "drifted" and row["measure"] == "psi":
            found.setdefault((row["endpoint"], row["generation"]), []).append(row["name"])
    told = [f"{endpoint} {generation}: {', '.join(names)}" for (endpoint, generation), names in found.items()]
    return f"service '{service}', {'; '.join(told)}" if told else ""


def as_rows(day: dt.date, measured: Measured) -> Iterator[dict[str, Any]]:
    """A measurement as rows of the data set."""
    about = {
        "day": day,
        "endpoint": measured.endpoint,
        "generation": measured.generation,
        "model": measured.model,
        "rows": measured.rows,
    }
    for one in measured.features:
        yield from _drift_rows({**about, "of": "input"}, one)
    if measured.prediction is not None:
        yield from _drift_rows({**about, "of": "prediction"}, measured.prediction)
    for quality in measured.qualities:
        yield {
            **about,
            "rows": measured.outcomes,
            "of": "performance",
            "name": quality.metric,
            "measure": quality.metric,
            "value": quality.now,
            "then": quality.then,
        }


def _drift_rows(about: dict[str, Any], one: Drift) -> Iterator[dict[str, Any]]:
    values = {
        "psi": one.psi,
        "jensen_shannon": one.jensen_shannon,
        one.test: one.statistic,
        f"{one.test}_p": one.p,
    }
    for name, value in values.items():
        yield {**about, "name": one.name, "measure": name, "value": value, "verdict": one.verdict}


def history(workspace: Workspace, service: str, *, days: int) -> list[dict[str, Any]]:
    """What is kept of the last days, oldest first."""
    repository = find_repository(workspace.lake, service)
    if repository is None:
        return []
    first = (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days)).isoformat()
    rows: list[dict[str, Any]] = []
    branch = repository.default_branch
    for entry in repository.entries(branch, f"{DRIFT}/"):
        if entry.path.endswith(".parquet") and day_of(entry.path) >= first:
            rows += pq.read_table(io.BytesIO(repository.get(branch, entry.path))).to_pylist()
    return [{**row, "day": row["day"].isoformat()} for row in rows]


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _state(repository: Repository, day: dt.date) -> str | None:
    """What a measurement of a day depends on, as a name; None when nothing was asked that day."""
    branch = repository.default_branch
    asked = [entry.path for entry in repository.entries(branch, f"{QUERIES}/day={day.isoformat()}/")]
    if not asked:
        return None
    # What turned out of a day is told on that day or later.
    told = [
        entry.path
        for entry in repository.entries(branch, f"{FEEDBACK}/")
        if day_of(entry.path) >= day.isoformat()
    ]
    return _digest([*asked, *told])


def _digest(paths: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    log = QueryLog(workspace.settings, workspace.lake)

    @api.get("/services/{name}/drift")
    def drift(
        name: str,
        since: Moment = None,
        until: Moment = None,
        endpoint: Text = "",
        generation: Text = "",
        environment: Text = "",
    ) -> dict[str, Any]:
        check_known(workspace, name)
        end = time.time() if until is None else until
        begin = end - DAY if since is None else since
        if begin >= end:
            raise Invalid("the window ends before it begins", hint="`since` is to be before `until`")
        query_log.collect_all(workspace, name)
        found = measure(
            log,
            workspace.lake,
            package.packages(workspace.database, name),
            since=begin,
            until=end,
            endpoint=endpoint,
            generation=generation,
            environment=environment,
        )
        return {"service": name, "since": begin, "until": end, "measured": [one.plain() for one in found]}

    @api.get("/services/{name}/drift/history")
    def kept(name: str, days: Annotated[int, Query(ge=1, le=400)] = 30) -> dict[str, Any]:
        check_known(workspace, name)
        return {"service": name, "history": history(workspace, name, days=days)}

    @api.post("/services/{name}/drift")
    def measure_days(name: str) -> dict[str, Any]:
        check_known(workspace, name)
        query_log.collect_all(workspace, name)
        if days := keep_days(workspace, name):
            tell(workspace, [name])
        return {"service": name, "days": days}

    return api
