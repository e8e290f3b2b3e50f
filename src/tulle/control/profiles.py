"""Profiles of what is published: made after each run that published, kept, and told below `/mesh/v1`.

They are made beside the runs, not in them: whoever waits for data does not wait for its profile. A crash loses none,
since the follower moves on in the transaction that keeps them. What is kept for long enough, results of checks
included, is forgotten here as well.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Query

from tulle.catalog.masking import readable_columns
from tulle.catalog.routes import Routes
from tulle.config import Settings, Warehouse
from tulle.control.workspace import Workspace
from tulle.engine.duck import DuckEngine
from tulle.errors import NotFound, TulleError, did_you_mean
from tulle.events import RUN_FINISHED
from tulle.pipeline import release
from tulle.pipeline import run as runs
from tulle.pipeline.job import INGEST, PYTHON, SCORE, SQL
from tulle.pipeline.table import DataAt, data_at
from tulle.quality import history, kept_profiles
from tulle.quality.column_profile import NO_VALUES, DataSetProfile, profile
from tulle.quality.kept_profiles import KeptProfile
from tulle.spec.product import DataProduct
from tulle.state import followers, products
from tulle.state.db import now
from tulle.state.log import LogEntry

LOG = logging.getLogger("tulle")
NAME = "profiles"
PAUSE_SECONDS = 1.0
TIDY_EVERY = 3600.0
_DAY = 86_400.0
_LONGEST_SECONDS = 3600.0  # that making one profile takes
# Beside whatever runs: slowly, and in little memory.
_BOUNDS = Warehouse(threads=1, memory="512MB", temp_disk="4GB")

Name = Annotated[str, Query(max_length=255)]


class Profiles:
    """Follows the runs of one mesh, keeps profiles of what they published, and forgets what is old."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stop = threading.Event()
        self._tidied = -math.inf
        self._thread = threading.Thread(target=self._follow, name="profiles", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not kept yet the next one keeps."""
        self._stop.set()
        self._thread.join(2)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                if time.monotonic() > self._tidied + TIDY_EVERY:
                    self._tidied = time.monotonic()
                    tidy(self._workspace)
                if follow(self._workspace):
                    continue
            except Exception:
                LOG.exception("profiles are tried again")
                self._stop.wait(10)
            self._stop.wait(PAUSE_SECONDS)


def tidy(workspace: Workspace) -> int:
    """Forget results of checks that were kept for long enough, how many there were; and what crashes left."""
    _remove_leftovers(workspace)
    forgotten = history.prune(workspace.database, now() - workspace.settings.check_result_days * _DAY)
    if forgotten:
        LOG.info("%d old results of checks were forgotten", forgotten)
    return forgotten


def _remove_leftovers(workspace: Workspace) -> None:
    """Samples and unpacked code that killed processes left, and that of products that are no more."""
    settings, database = workspace.settings, workspace.database
    samples = _folder(settings)
    for left in samples.glob("*.parquet") if samples.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # whoever made it removed it just now
            if left.stat().st_mtime < time.time() - _LONGEST_SECONDS:
                left.unlink()
    release.remove_unpacked(settings, {item.product.name for item in products.applied(database)})


def follow(workspace: Workspace) -> int:
    """Keep profiles of what was published since; how many events there were."""
    database = workspace.database
    if followers.begin(database, NAME):
        return 0
    position, found = followers.unseen(database, NAME)
    for entry in found:
        made = _of_run(workspace, entry) if _published(entry) else []
        if not made and entry is not found[-1]:
            continue  # the position moves with the next that has something, or with the last
        with database.write() as cx:
            if not followers.move(cx, NAME, position, entry.id):
                return 0
            for data, told in made:
                kept_profiles.keep(
                    cx,
                    entry.subject,
                    str(entry.data["environment"]),
                    data.name,
                    told,
                    identity=data.identity,
                    commit=str(entry.data["commit"]),
                    run=str(entry.data["run"]),
                )
        position = entry.id
    return len(found)


def _published(entry: LogEntry) -> bool:
    return (
        entry.kind == RUN_FINISHED
        and entry.data.get("status") == runs.SUCCEEDED
        and bool(entry.data["commit"])
    )


def _of_run(workspace: Workspace, entry: LogEntry) -> list[tuple[DataAt, DataSetProfile]]:
    """The profiles of what a run made; none of what is gone again, or cannot be read."""
    made = []
    try:
        run = runs.get(workspace.database, str(entry.data["run"]))
        for step in run.steps:
            if step.kind in {INGEST, SQL, PYTHON, SCORE} and step.status == runs.SUCCEEDED:
                found = look(workspace, entry.subject, step.name, str(entry.data["commit"]))
                made += [found] if found else []
    except (TulleError, OSError) as exc:
        LOG.info("no profile of what run %s of '%s' published: %s", entry.data["run"], entry.subject, exc)
    return made


def look(workspace: Workspace, product: str, data_set: str, ref: str) -> tuple[DataAt, DataSetProfile] | None:
    """The profile of a data set at a ref; None where it has no rows of its own, as a view has not. NotFound."""
    data = data_at(workspace.lake.repository(product), ref, data_set)
    if data is None:
        return None
    declared = products.applied_product(workspace.database, product).product
    folder = _folder(workspace.settings)

    def shown(columns: Collection[str]) -> Collection[str]:
        return readable_columns(declared, data_set, columns)

    return data, profile(DuckEngine(_BOUNDS, folder / "spill"), data.relation, folder, shown=shown)


def as_told(declared: DataProduct, kept: Iterable[KeptProfile]) -> list[dict[str, Any]]:
    """Profiles of a product as plain values, without what it says by now that nobody is to see.

    What was left out when a profile was made stays so, whatever the product says.
    """
    told = []
    for one in kept:
        columns = one.profile["columns"]
        shown = readable_columns(declared, one.data_set, [column["name"] for column in columns])
        columns = [
            column if column["hidden"] or column["name"] in shown else {**column, **NO_VALUES}
            for column in columns
        ]
        told.append({**asdict(one), "profile": {**one.profile, "columns": columns}})
    return told


def _folder(settings: Settings) -> Path:
    """Where samples of large data sets lie while they are looked at."""
    return settings.run_folder / "profiles"


def profile_of(workspace: Workspace, product: str, data_set: str, environment: str) -> KeptProfile:
    """The profile of what is published now, made when it is not kept yet. NotFound."""
    database = workspace.database
    declared = products.applied_product(database, product).product
    repository = workspace.lake.repository(product)
    commit = repository.resolve(environment)
    data = data_at(repository, commit, data_set)
    if data is None:
        known = [one.name for one in declared.data_sets]
        raise NotFound(
            f"data set '{data_set}' of product '{product}' has no rows of its own on '{environment}'",
            hint=did_you_mean(data_set, [name for name in known if name != data_set])
            or f"`tulle run {product}` publishes it; a view has those of what it reads",
        )
    if (
        kept := kept_profiles.with_identity(
            database, product, data_set, data.identity, environment=environment
        )
    ) is None:
        made = look(workspace, product, data_set, commit)
        assert made is not None
        with database.write() as cx:
            kept_profiles.keep(
                cx, product, environment, data_set, made[1], identity=data.identity, commit=commit
            )
        kept = kept_profiles.with_identity(
            database, product, data_set, data.identity, environment=environment
        )
        assert kept is not None
    return kept


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1/products/{product}/datasets/{data_set}")

    @api.get("/profile")
    def present(product: str, data_set: str, environment: Name = "main") -> dict[str, Any]:
        declared = products.applied_product(workspace.database, product).product
        return as_told(declared, [profile_of(workspace, product, data_set, environment)])[0]

    @api.get("/profile/history")
    def earlier(
        product: str,
        data_set: str,
        environment: Name = "main",
        limit: Annotated[int, Query(ge=1, le=kept_profiles.KEPT)] = 30,
    ) -> dict[str, Any]:
        declared = products.applied_product(workspace.database, product).product
        found = kept_profiles.profiles(
            workspace.database, product, data_set, environment=environment, limit=limit
        )
        named = {"product": product, "data_set": data_set, "environment": environment}
        return {**named, "profiles": as_told(declared, found)}

    return api
